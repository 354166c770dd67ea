"""`python -m export.synthetic --preset small OUT`: a checkpoint with random weights in the published layout.

Values are drawn from a table of 65536 normal quantiles by random 16-bit numbers: as fast as memory for any type.
Each chunk of each tensor has a generator of its own, so the values do not depend on the number of threads.
float16 values are rounded to bfloat16 first, as which the published checkpoint is stored.
"""

import argparse
import json
import math
import os
import statistics
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from core.config import QUERIES, ModelConfig
from core.errors import UserError, run_cli
from core.files import atomic_dir
from core.ranks import VOCABULARY
from export import names, plain
from export.dtypes import STORAGE, cast
from export.places import output_folder
from export.progress import progress
from export.vocabulary import write_vocabulary

PRESETS = Path(__file__).parent / "presets"
CHUNK = 1 << 22  # values
HEADER_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DTYPE_FLAGS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def presets():
    """Names of the geometries that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def write_checkpoint(preset, out, seed=0, dtype=None):
    """Write config.json, model.safetensors and qwen.tiktoken to folder `out`; equal arguments give equal weights.

    Preset 7b takes the published vocabulary where a package here has it (export/vocabulary.py).
    dtype: the weights' type, by default the preset's own.
    """
    out = output_folder(out, plain.is_synthetic)
    raw = json.loads((PRESETS / f"{preset}.json").read_text(encoding="utf-8"))
    config = ModelConfig.from_dict(raw, f"preset {preset}")
    dtype = dtype or raw["torch_dtype"]
    raw.update({flag: name == dtype for name, flag in DTYPE_FLAGS.items()}, torch_dtype=dtype)
    with atomic_dir(out) as folder:
        raw["synthetic"] = {"preset": preset, "seed": seed,
                            "vocabulary": write_vocabulary(folder / VOCABULARY, config.image_start_id)}
        (folder / "config.json").write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_weights(folder / "model.safetensors", config, seed, dtype)
    return out


def write_weights(path, config, seed, dtype):
    """Write random weights of geometry `config` as one safetensors file, by several threads, straight to disk."""
    item = STORAGE[dtype].itemsize
    parameters = sorted(names.parameters(config), key=lambda p: p.name)
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for p in parameters:
        size = math.prod(p.shape) * item
        entries[p.name] = {"dtype": HEADER_NAMES[dtype], "shape": p.shape, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)

    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(file, 0, start + offset)  # a full disk shows now, not after minutes
        os.pwrite(file, struct.pack("<Q", len(header)) + header, 0)
        quantiles = _normal_quantiles()

        def fill(p, first):
            count = min(CHUNK, math.prod(p.shape) - first)
            values = _chunk(p, config, seed, dtype, first, count, quantiles)
            position = start + entries[p.name]["data_offsets"][0] + first * item
            view = memoryview(values).cast("B")
            while view:
                written = os.pwrite(file, view, position)
                view, position = view[written:], position + written
            return values.nbytes

        with (ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool,
              progress(path.name, offset) as advance):
            work = [pool.submit(fill, p, first) for p in parameters for first in range(0, math.prod(p.shape), CHUNK)]
            try:
                for done in work:
                    advance(done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        os.close(file)


def _normal_quantiles():
    normal, steps = statistics.NormalDist(), 1 << 16  # one quantile per 16-bit number
    return np.array([normal.inv_cdf((i + 0.5) / steps) for i in range(steps)], np.float32)


def _chunk(p, config, seed, dtype, first, count, quantiles):
    """Values first..first+count of a tensor, in row order."""
    if p.name.endswith("attn_pool.pos_embed"):
        table = sin_cos_table(config.visual.output_dim, math.isqrt(QUERIES)).reshape(-1)[first:first + count]
        return _as_published(table, dtype, p.name)
    mean, deviation = _distribution(p, config)
    table = _as_published(mean + deviation * quantiles, dtype, p.name)
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(p.name.encode()), first]))
    index = generator.integers(0, 1 << 64, size=-(-count // 4), dtype=np.uint64).view(np.uint16)[:count]
    return table[index]


def _as_published(values, dtype, name):
    """float32 values as `dtype`; as float16, those of a bfloat16 checkpoint."""
    if dtype != "float16":
        return cast(values, "float32", dtype, name)
    return cast(cast(values, "float32", "bfloat16", name), "bfloat16", "float16", name)


def _distribution(p, config):
    """Mean and standard deviation, such that activations keep their size through any number of layers, attention is
    neither flat nor a single peak, and logits have a standard deviation of about 2."""
    name, fan_in = p.name, p.shape[-1]
    if name.endswith(".bias") or name.endswith("_bias"):
        return 0.0, 0.05
    if len(p.shape) == 1:  # norms
        return 1.0, 0.1
    if name == "transformer.wte.weight":
        return 0.0, 3.0  # above the 256 image features', which would else let every token attend to one average
    if name == "lm_head.weight":
        return 0.0, 2 / math.sqrt(fan_in)
    if name.endswith(".positional_embedding"):
        return 0.0, 0.3
    if name.endswith(".query"):
        return 0.0, 0.02
    if name.endswith(".conv1.weight"):
        return 0.0, 1 / math.sqrt(config.visual.patch_values)
    if name.endswith((".c_attn.weight", ".in_proj.weight", ".in_proj_weight")):
        return 0.0, 1.5 / math.sqrt(fan_in)
    if name.endswith((".c_proj.weight", ".out_proj.weight")):  # the ends of residual branches
        gain, layers = (2, config.visual.layers) if ".visual." in name else (3, config.num_hidden_layers)
        return 0.0, gain / math.sqrt(fan_in * layers)
    return 0.0, 1 / math.sqrt(fan_in)


def sin_cos_table(width, grid):
    """Two-dimensional sine-cosine positions [grid * grid, width]: columns, then rows; each sines, then cosines."""
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width / 4))
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    parts = []
    for position in (columns, rows):
        angles = np.outer(position, frequencies)
        parts += [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(prog="python -m export.synthetic", description=__doc__.splitlines()[0])
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=sorted(STORAGE), help="default: the preset's")
    options = parser.parse_args()
    if options.preset not in presets():
        raise UserError(f"no preset {options.preset!r}: PRESET= is one of {', '.join(presets())}")
    if options.seed < 0:
        raise UserError("--seed must not be negative")
    print(write_checkpoint(options.preset, options.out, options.seed, options.dtype))


if __name__ == "__main__":
    run_cli(main)
