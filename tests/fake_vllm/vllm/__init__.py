"""A stand-in for vLLM: the calls that the arm makes, over this repository's decoder in float32, a token a step."""

import json
from collections import namedtuple
from pathlib import Path

import torch
from torch import nn

from bench.torch_model.attention import additive_mask
from bench.torch_model.language import DecoderBlock, RMSNorm, StepContext
from bench.torch_model.rotary import inverse_frequencies, rotation
from core.config import ModelConfig
from vllm.model_executor.model_loader import LOADERS

__version__ = "0.0 of the tests"
Output = namedtuple("Output", "request_id outputs")
Part = namedtuple("Part", "token_ids")
Geometry = namedtuple("Geometry", "dtype")


class SamplingParams:
    def __init__(self, temperature, max_tokens, ignore_eos, detokenize, output_kind):
        assert temperature == 0 and ignore_eos and not detokenize and output_kind == "delta"
        self.max_tokens = max_tokens


class Decoder(nn.Module):
    """What QWenLMHeadModel holds; like it, knows no other names than the language model's."""

    def __init__(self, config):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer.h = nn.ModuleList(DecoderBlock(config, "eager") for _ in range(config.num_hidden_layers))
        self.transformer.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.config = config

    def load_weights(self, weights):
        self.load_state_dict(dict(weights), strict=True)

    @torch.no_grad()
    def next_token(self, embeddings, prompt_length):
        length = embeddings.shape[1]
        angles = rotation(inverse_frequencies(self.config, prompt_length, "cpu"), torch.arange(length))
        context = StepContext(*angles, None, additive_mask(length, length, torch.float32, "cpu"), False)
        for block in self.transformer.h:
            embeddings = block(embeddings, context, None)
        return int(self.lm_head(self.transformer.ln_f(embeddings)[0, -1]).argmax())


class Engine:
    def __init__(self, model):
        self.model, self.requests = model, {}

    def add_request(self, name, prompt, sampling):
        embeddings = prompt["prompt_embeds"]
        assert embeddings.ndim == 2 and embeddings.device.type == "cpu" and name not in self.requests
        self.requests[name] = [embeddings[None], len(embeddings), sampling.max_tokens]

    def has_unfinished_requests(self):
        return bool(self.requests)

    def step(self):
        """One token of every request."""
        outputs = []
        for name, (embeddings, length, left) in list(self.requests.items()):
            token = self.model.next_token(embeddings, length)
            outputs.append(Output(name, [Part([token])]))
            embeddings = torch.cat([embeddings, self.model.transformer.wte.weight[None, None, token]], 1)
            self.requests[name] = [embeddings, length, left - 1]
            if left == 1:
                del self.requests[name]
        return outputs


class LLM:
    def __init__(self, model, skip_tokenizer_init, enable_prompt_embeds, load_format, dtype, max_model_len, **_):
        assert skip_tokenizer_init and enable_prompt_embeds and dtype == "float32"
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        assert config["architectures"] == ["QWenLMHeadModel"] and "visual" not in config
        filled = {"kv_channels": config["hidden_size"] // config["num_attention_heads"], "seq_length": max_model_len,
                  "use_dynamic_ntk": False, "use_logn_attn": False, "visual": None}
        fields = ModelConfig.__dataclass_fields__
        decoder = Decoder(ModelConfig(**{name: {**config, **filled}[name] for name in fields}))
        LOADERS[load_format]().load_weights(decoder, Geometry(torch.float32))
        self.llm_engine = Engine(decoder)
