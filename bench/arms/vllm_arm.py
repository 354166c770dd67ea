"""The arms vllm and vllm-fp8: vLLM runs the language model, torch.compile the vision tower before it.

vLLM has a Qwen-VL of its own, which makes prompts of text with the published tokenizer and runs the encoder eagerly.
Here prompts are the run's token ids and the encoder is the best that PyTorch has, so prompts go in as embeddings, with
which vLLM runs any text model (its option enable_prompt_embeds). The weights are the checkpoint's, by the readers that
all arms use; vLLM reads no file but a config.json that is written for it.
"""

import json
import tempfile
import time
from pathlib import Path

from core.errors import NotHere

try:
    import torch
    import vllm
    from transformers import AutoConfig, PretrainedConfig
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.executor.uniproc_executor import UniProcExecutor
except ModuleNotFoundError as e:
    raise NotHere(f"needs vLLM, and this interpreter has no {e.name}: put it into an environment of its own (pip "
                  "install vllm==0.22.0) and name that one's python by VLLM_PYTHON= or --vllm-python") from None

from bench.arms.base import Generation
from bench.arms.torch_base import TorchBase
from bench.torch_model.checkpoint import language_tensors, load_prompt_embeddings
from bench.torch_model.static import Captured, compile_options, compile_vision
from bench.work import decoder_matrices
from export.checkpoint import open_checkpoint
from ops.weights import decode_bytes

ROWS = 32                # most prompts at a time
PROMPT_TOKENS = 16384    # of all rows, that one prefill takes
CACHE_TOKENS = 32 * 1024
# Numbers of tokens that vLLM captures as CUDA graphs, of a decode step and of a prefill. It pads to the next one, and
# would capture none above 2 * ROWS by itself: prefill would then wait for the host.
GRAPHS = [1, 2, 4, 8, 16, 24, *range(ROWS, 545, 32)]
DEVICE_SHARE = 0.05      # vLLM looks for as much free memory when it starts; what it takes follows from CACHE_TOKENS


class QwenConfig(PretrainedConfig):
    """What vLLM's QWenLMHeadModel reads of a config.json."""

    model_type = "qwen"


def text_config(config, dtype):
    """config.json of the language model alone, from a core.config.ModelConfig."""
    return {"architectures": ["QWenLMHeadModel"], "model_type": QwenConfig.model_type, "torch_dtype": dtype,
            "hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads, "intermediate_size": config.intermediate_size,
            "vocab_size": config.vocab_size, "layer_norm_epsilon": config.layer_norm_epsilon,
            "max_position_embeddings": config.max_position_embeddings, "rotary_emb_base": config.rotary_emb_base,
            "rope_theta": float(config.rotary_emb_base), "tie_word_embeddings": False}


@register_model_loader("qwen-vl-checkpoint")
class CheckpointLoader(BaseModelLoader):
    """Gives vLLM the language model's weights; `checkpoint` is set before it starts."""

    checkpoint = None

    def download_model(self, model_config):
        """Nothing is downloaded."""

    def load_weights(self, model, model_config):
        device = next(model.parameters()).device
        model.load_weights(language_tensors(self.checkpoint, model_config.dtype, device))


class VllmArm(TorchBase):
    def open(self, source, dtype, device, threads, quantization=None, backend="inductor"):
        checkpoint = open_checkpoint(source)
        config = checkpoint.config
        if config.kv_channels * config.num_attention_heads != config.hidden_size:
            raise NotHere("vLLM's Qwen has heads of hidden_size / num_attention_heads, this model has others")
        self.use(threads, dtype)
        self.model = load_prompt_embeddings(checkpoint, getattr(torch, dtype), self.device)
        compile_vision(self.model.visual, **next(iter(compile_options(backend, self.device).values())))
        CheckpointLoader.checkpoint = checkpoint
        AutoConfig.register(QwenConfig.model_type, QwenConfig, exist_ok=True)
        slot_bytes = 2 * config.num_hidden_layers * config.hidden_size * getattr(torch, dtype).itemsize
        with tempfile.TemporaryDirectory(prefix="vllm-") as folder:
            (Path(folder) / "config.json").write_text(json.dumps(text_config(config, dtype)), encoding="utf-8")
            self.engine = vllm.LLM(
                model=folder, skip_tokenizer_init=True, enable_prompt_embeds=True, load_format="qwen-vl-checkpoint",
                dtype=dtype, quantization=quantization, enable_prefix_caching=False, max_num_seqs=ROWS,
                max_model_len=min(config.seq_length, config.max_position_embeddings),   # it lacks Qwen's dynamic NTK
                max_num_batched_tokens=PROMPT_TOKENS, kv_cache_memory_bytes=CACHE_TOKENS * slot_bytes,
                gpu_memory_utilization=DEVICE_SHARE, compilation_config={"cudagraph_capture_sizes": GRAPHS},
                distributed_executor_backend=UniProcExecutor).llm_engine
        self.passes = 0
        if quantization:
            saved = decoder_matrices(config) * (getattr(torch, dtype).itemsize - 1)
            self.weights = {"weights": f"{quantization} (vLLM)", "bits": 8,
                            "decode_bytes": decode_bytes(config, dtype) - saved}

    def prepare(self, image, prompts, new_tokens):
        length = max(map(len, prompts))
        if len(prompts) > ROWS or length * len(prompts) > PROMPT_TOKENS:
            raise NotHere(f"this arm takes {ROWS} rows and {PROMPT_TOKENS} prompt tokens at most")
        if length + new_tokens > min(self.model.geometry.seq_length, CACHE_TOKENS // len(prompts)):
            raise NotHere(f"this arm takes prompts and answers up to the model's {self.model.geometry.seq_length} "
                            f"positions, and {CACHE_TOKENS} of all rows")
        return super().prepare(image, prompts, new_tokens)

    @torch.no_grad()
    def compile(self):
        size = self.image_size
        self.pixels = torch.zeros(len(self.prompts), 3, size, size, device=self.device)
        self.encode = Captured(lambda: self.model.visual(self.pixels), self.device)
        tokens = torch.tensor(self.prompts, device=self.device)
        slots = self.model.slots(tokens)
        self.embeddings = torch.empty(*tokens.shape, self.model.geometry.hidden_size, dtype=self.model.wte.weight.dtype,
                                      pin_memory=self.on_gpu)
        self.embed = Captured(lambda: self.embeddings.copy_(self.model(tokens, self.encode.result, slots),
                                                            non_blocking=True), self.device)
        return True

    @torch.no_grad()
    def vision(self, pixels):
        self.pixels.copy_(torch.from_numpy(pixels))
        return self.encode()

    @torch.no_grad()
    def start(self, features):
        """The prompts' embeddings, on their way to the host; `features` are where the encoder leaves them."""
        return self.embed()

    @torch.no_grad()
    def generate(self, prompts):
        sampling = vllm.SamplingParams(temperature=0, max_tokens=self.new_tokens, ignore_eos=True, detokenize=False,
                                       output_kind=RequestOutputKind.DELTA)
        self.passes += 1
        names = [f"{self.passes}-{row}" for row in range(len(self.prompts))]
        made, first = {name: [] for name in names}, None
        self.begin("prefill")
        for name, embeddings in zip(names, prompts, strict=True):
            self.engine.add_request(name, {"prompt_embeds": embeddings}, sampling)
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                made[output.request_id] += output.outputs[0].token_ids
            last = time.perf_counter()
            if first is None and all(made.values()):
                first = last
                self.end("prefill")
                self.begin("decode")
        self.end("decode")
        return Generation(list(made.values()), first, last)

    def greedy_logits(self, prompts):
        """vLLM keeps its logits: the gate compares the tokens."""
        self.synchronize()
        return self.generate(prompts).tokens, None

    def release(self):
        self.encode = self.embed = self.embeddings = None
        super().release()

    def versions(self):
        return {**super().versions(), "vllm": vllm.__version__}
