"""The whole model as transformers sees it: forward() over a cache, and generate() from GenerationMixin."""

import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.torch_model.attention import additive_mask
from bench.torch_model.checkpoint import filled, tensors
from bench.torch_model.language import StepContext, Transformer
from bench.torch_model.rotary import inverse_frequencies, logn_scale, rotation
from core.config import QUERIES
from export.checkpoint import open_checkpoint


class QwenVLConfig(PretrainedConfig):
    """The little that transformers' generate() wants to know; the geometry itself is a core.config.ModelConfig."""

    model_type = "qwen_vl_baseline"


class LayerCache:
    """One layer of a transformers cache."""

    def __init__(self, cache, layer):
        self.cache, self.layer = cache, layer

    def update(self, k, v):
        return self.cache.update(k, v, self.layer)


class QwenVLForCausalLM(PreTrainedModel, GenerationMixin):
    """Qwen-VL in PyTorch.

    `model_config` is a core.config.ModelConfig, `attention` "eager" or "sdpa". As in the published model, the rotary
    base of a prompt is state of the module: decode steps use that of the last prefill, so one generation runs at a
    time. Whether the prompt batch was padded is kept beside it, which saves a look at the device in every step.
    """

    config_class = QwenVLConfig
    base_model_prefix = "transformer"

    def __init__(self, model_config, attention):
        super().__init__(QwenVLConfig(
            vocab_size=model_config.vocab_size, hidden_size=model_config.hidden_size,
            num_hidden_layers=model_config.num_hidden_layers, num_attention_heads=model_config.num_attention_heads,
            max_position_embeddings=model_config.max_position_embeddings, tie_word_embeddings=False))
        self.geometry, self.attention = model_config, attention
        self.transformer = Transformer(model_config, attention)
        self.lm_head = nn.Linear(model_config.hidden_size, model_config.vocab_size, bias=False)
        self.frequencies, self.padded = None, False
        self.post_init()

    def _init_weights(self, module):
        """Weights come from a checkpoint, every one of them."""

    def get_input_embeddings(self):
        return self.transformer.wte

    @torch.inference_mode()
    def encode(self, pixels):
        """pixels [N, 3, S, S] -> image features [N, QUERIES, H]."""
        return self.transformer.visual(pixels)

    def forward(self, input_ids, attention_mask=None, past_key_values=None, image_features=None, use_cache=True,
                logits_to_keep=0, **_):
        """One call over `input_ids` [B, S], behind what `past_key_values` holds.

        `attention_mask` [B, past + S] is 0 at left padding. `image_features` [N, QUERIES, H], in order of
        appearance, are used by a prefill only. Logits [B, S or logits_to_keep, V] in the model's dtype.
        """
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache()
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        length, device = input_ids.shape[1], input_ids.device
        embeddings = self.transformer.wte(input_ids)
        if past == 0:
            self.frequencies = inverse_frequencies(self.geometry, length, device)
            self.padded = attention_mask is not None and not bool(attention_mask.all())
            if image_features is not None:
                embeddings = self._with_images(embeddings, input_ids, image_features)
        context = self._context(past, length, attention_mask, embeddings.dtype, device)
        caches = None if past_key_values is None else [
            LayerCache(past_key_values, layer) for layer in range(self.geometry.num_hidden_layers)]
        hidden = self.transformer(embeddings, context, caches)
        logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _with_images(self, embeddings, input_ids, image_features):
        rows, columns = (input_ids == self.geometry.image_start_id).nonzero(as_tuple=True)
        if len(rows) != len(image_features):
            raise ValueError(f"{len(image_features)} images given, {len(rows)} <img> tokens in the prompts")
        slots = columns[:, None] + 1 + torch.arange(QUERIES, device=columns.device)
        return embeddings.index_put((rows[:, None], slots), image_features.to(embeddings.dtype))

    def _context(self, past, length, attention_mask, dtype, device):
        total = past + length
        positions = torch.arange(past, total, device=device)
        cos, sin = rotation(self.frequencies, positions)
        beyond = self.geometry.use_logn_attn and total > self.geometry.seq_length
        scale = logn_scale(positions, self.geometry.seq_length, dtype) if beyond else None
        causal = self.attention == "sdpa" and past == 0 and not self.padded
        mask = None
        if self.padded or (length > 1 and not causal):
            mask = additive_mask(length, total, dtype, device, attention_mask if self.padded else None)
        return StepContext(cos, sin, scale, mask, causal)

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, image_features=None,
                                      logits_to_keep=0, **_):
        if past_key_values is not None and past_key_values.get_seq_length() > 0:
            input_ids = input_ids[:, -1:]
        return {"input_ids": input_ids, "past_key_values": past_key_values, "attention_mask": attention_mask,
                "image_features": image_features, "logits_to_keep": logits_to_keep, "use_cache": True}


def load_model(checkpoint_dir, attention="sdpa", dtype=torch.float32, device="cpu", rounded_to=None,
               quantised_to=None):
    """The baseline with the checkpoint's weights, in eval mode.

    `rounded_to` is a dtype that the weights are rounded to before they become `dtype`; `quantised_to` the name of a
    format of ops.formats that the matrices of the decoder are rounded to after that, and the head's if it takes both.
    A few tensors, AHEAD, are in memory beside the weights; weights that the CPU takes as they are in the file stay
    there, mapped. UserError names what is no plain checkpoint, tensors that do not fit config.json, and those with
    values that are not finite or too large.
    """
    checkpoint = open_checkpoint(checkpoint_dir)
    with torch.device("meta"):
        model = QwenVLForCausalLM(checkpoint.config, attention)
    state = dict(tensors(checkpoint, "", dtype, torch.device(device), rounded_to or dtype, quantised_to))
    return filled(model, state, model.transformer.visual)
