"""The model's geometry, read from the published config.json and checked before anything is sized by it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError

HEAD_DIM_OF_RESAMPLER = 128
QUERIES = 256            # image features per image, a 16 x 16 grid
MAX_CONFIG_BYTES = 1 << 20
LIMITS = {  # far above any published model; they bound what a broken file can make us allocate
    "hidden_size": 1 << 16, "num_hidden_layers": 1024, "num_attention_heads": 1024, "kv_channels": 1024,
    "intermediate_size": 1 << 20, "vocab_size": 1 << 22, "seq_length": 1 << 24,
    "max_position_embeddings": 1 << 24,
    "image_size": 1 << 13, "patch_size": 1 << 10, "width": 1 << 16, "layers": 1024, "heads": 1024,
    "output_dim": 1 << 16, "image_start_id": 1 << 22,
}


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of the encoder and the resampler; the names are those of config.json's `visual` part."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float
    output_dim: int
    image_start_id: int

    @property
    def grid(self):
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self):
        return self.grid ** 2

    @property
    def head_dim(self):
        return self.width // self.heads

    @property
    def mlp_width(self):
        return int(self.width * self.mlp_ratio)

    @property
    def patch_values(self):
        """Values of one patch, three channels."""
        return 3 * self.patch_size ** 2

    @property
    def resampler_heads(self):
        return self.output_dim // HEAD_DIM_OF_RESAMPLER


@dataclass(frozen=True)
class ModelConfig:
    """Geometry of the whole model; the names are those of the published config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    kv_channels: int
    intermediate_size: int
    seq_length: int
    max_position_embeddings: int
    layer_norm_epsilon: float
    rotary_emb_base: float
    use_dynamic_ntk: bool
    use_logn_attn: bool
    visual: VisionConfig

    @property
    def mlp_width(self):
        """Width of w1 and w2: half of what config.json calls intermediate_size."""
        return self.intermediate_size // 2

    @property
    def image_start_id(self):
        return self.visual.image_start_id

    @classmethod
    def load(cls, checkpoint_dir):
        """Read and check `config.json` in a folder; raises UserError with every fault in one line."""
        path = Path(checkpoint_dir) / "config.json"
        if not path.is_file():
            raise UserError(f"no config.json in {checkpoint_dir}: CKPT= must be a Qwen-VL checkpoint folder")
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UserError(f"{path} is larger than 1 MiB: not a model's config.json")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as e:
            raise UserError(f"{path} is not valid JSON ({e})") from None
        return cls.from_dict(raw, path)

    @classmethod
    def from_dict(cls, raw, source="config"):
        """Build from config.json's content (unknown keys are ignored); raises UserError naming every fault."""
        faults = []
        visual = raw.get("visual") if isinstance(raw, dict) else None
        if not isinstance(visual, dict):
            raise UserError(f"{source} has no 'visual' part: this is not a Qwen-VL checkpoint")

        def take(values, kind):
            taken = {}
            for field in dataclasses.fields(kind):
                if field.name == "visual":
                    continue
                value = values.get(field.name)
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if field.type is bool:
                    ok = isinstance(value, bool)
                elif field.type is int:
                    ok = number and value == value and value in range(1, LIMITS[field.name] + 1)
                    value = int(value) if ok else value
                else:
                    ok = number and 0 < value < 1e9
                if not ok:
                    faults.append(f"{field.name}={value!r}")
                taken[field.name] = value
            return taken

        model, vision = take(raw, cls), take(visual, VisionConfig)
        if not faults:
            config = cls(**model, visual=VisionConfig(**vision))
            faults = [text for broken, text in config._rules() if broken]
            if not faults:
                return config
        raise UserError(f"{source} does not describe a Qwen-VL model: {', '.join(faults)}")

    def _rules(self):
        v = self.visual
        yield (self.num_attention_heads * self.kv_channels != self.hidden_size,
               "num_attention_heads * kv_channels differs from hidden_size")
        yield (self.hidden_size % 8 != 0 or self.mlp_width % 8 != 0,
               "hidden_size and intermediate_size / 2 need a factor of 8")
        yield self.kv_channels % 2 != 0, "kv_channels must be even"
        yield v.image_size % v.patch_size != 0, "image_size is no multiple of patch_size"
        yield v.width % v.heads != 0, "visual width is no multiple of its heads"
        yield v.head_dim % 8 != 0, "visual head width needs a factor of 8"
        yield v.output_dim != self.hidden_size, "visual output_dim differs from hidden_size"
        yield v.output_dim % HEAD_DIM_OF_RESAMPLER != 0, "visual output_dim is no multiple of 128"
        yield v.image_start_id + 2 >= self.vocab_size, "image_start_id lies outside the vocabulary"

    def to_dict(self):
        """The same keys as config.json, so that from_dict(to_dict()) is the identity."""
        return dataclasses.asdict(self)
