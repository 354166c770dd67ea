"""`python -m export.quantise CKPT OUT --weights FORMAT`: a checkpoint with the decoder's matrices quantised, in a
layout that other programs read as well: AutoGPTQ's for whole numbers, that of compressed-tensors for floating ones.

Each matrix is rounded as the format does where a plain export is loaded with it, a block of rows at a time; all other
tensors stay as they are. Prints how much each role loses. Methods that need sample texts are left to the libraries that
have them: what they write in this layout is read.
"""

import json
import shutil
import struct
from dataclasses import dataclass, field

import numpy as np

from core.errors import ArgumentParser, UserError, run_cli
from core.files import atomic_dir
from export import names
from export.checkpoint import TOKENIZER_FILES, open_whole
from export.places import holding, output_folder
from export.progress import progress
from export.readers.compressed_tensors import CompressedTensors
from export.readers.gptq import Gptq
from export.readers.quantised import QUANTISED, WHOLE_GROUPS
from export.readers.safetensors import TYPES
from export.stored import NUMPY_TYPES
from ops import formats
from ops.formats.base import Codes
from ops.formats.lanes import in_threads
from ops.quantisation import Quantisation, dequantised, half_scales

WEIGHTS = "model.safetensors"
ORIGIN = "quantisation.json"   # beside them: what they were made from, and the loss
BLOCK_ROWS = 256   # that a thread quantises at once: few enough for the format to make no parts of them itself
HEADER_TYPES = {name: code for code, name in TYPES.items()}


def writable():
    """{name: (Quantised, Layout)} of the formats whose codes a layout holds, which are those without zero points."""
    made = {}
    for format in formats.quantised():
        floating = format.code == np.uint8
        written = CompressedTensors if floating else Gptq
        if not format.zero_points:
            made[format.name] = format, written(Quantisation(int(format.bits), format.group, False, floating))
    return made


@dataclass
class Loss:
    """Sums of squares, of the weights and of what rounding changed, by role."""

    squares: dict = field(default_factory=dict)

    def add(self, role, weights, rounded):
        total, lost = self.squares.get(role, (0.0, 0.0))
        rest = weights - rounded
        self.squares[role] = (total + float(np.vdot(weights, weights)), lost + float(np.vdot(rest, rest)))

    def relative(self):
        """{role: the norm of what was changed over that of the weights}."""
        return {role: (lost / total) ** 0.5 if total else 0.0 for role, (total, lost) in self.squares.items()}

    def lines(self):
        """A line for each role."""
        return [f"{role:8} relative error {error:.4f}" for role, error in self.relative().items()]


def quantise(source, out, weights):
    """Write checkpoint `source` with its decoder's matrices in the codes of a format to folder `out`; returns the Loss.

    UserError where the format has no place in the layout, does not fit the matrices, or they are quantised already;
    then `out` is as it was before.
    """
    if weights not in writable():
        raise UserError(f"WEIGHTS={weights} has no place in the layouts that are written: use one of "
                        f"{', '.join(writable())}")
    format, layout = writable()[weights]
    out = output_folder(out, holding(ORIGIN), source)
    checkpoint = open_whole(source)
    if checkpoint.quantised:
        raise UserError(f"{source} is quantised already, to {checkpoint.quantised.description}, and nothing is rounded "
                        "twice: give the float16 or bfloat16 checkpoint")
    loss, parameters = Loss(), [p for p in names.parameters(checkpoint.config) if QUANTISED.search(p.name)]
    shapes = {p.name: layout.part_shapes(p.shape) for p in parameters}
    if unfit := [name for name, parts in shapes.items() if parts is None]:
        fitting = [name for name, (_, other) in writable().items()
                   if all(other.part_shapes(p.shape) for p in parameters)]
        raise UserError(f"WEIGHTS={weights}: {names.listed(unfit[:1])} {WHOLE_GROUPS}: "
                        + (f"use {' or '.join(fitting)}" if fitting else "no format fits this model"))
    with atomic_dir(out) as folder:
        _write(folder / WEIGHTS, checkpoint, format, layout, shapes, loss)
        _write_configs(folder, checkpoint, layout)
        origin = {"source_hash": checkpoint.hash(), "weights": weights, "relative_error": loss.relative()}
        (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return loss


def _write_configs(folder, checkpoint, layout):
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    entry = layout.entry()
    contents = {"config.json": {**config, "quantization_config": entry}}
    if layout.BESIDE:
        contents[layout.BESIDE] = entry
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def _write(path, checkpoint, format, layout, shapes, loss):
    """One safetensors file: the header, then one matrix after the other."""
    described, content = {}, []
    for name, tensor in checkpoint.tensors.items():
        if name in shapes:
            parts = {part: (layout.TYPES[part][0], shape) for part, shape in shapes[name].items()}
            described |= {f"{name.removesuffix('weight')}{part}": entry for part, entry in parts.items()}
        else:
            described[name] = tensor.dtype, tensor.shape
        content.append((name, tensor))
    header, size = _header(described)
    with open(path, "wb") as file, progress("quantise", size) as advance:
        file.write(header)
        for name, tensor in content:
            for array in _quantised(name, tensor, format, layout, loss) if name in shapes else tensor.blocks():
                file.write(memoryview(np.ascontiguousarray(array)).cast("B"))
                advance(array.nbytes)


def _header(described):
    """(what begins a safetensors file of tensors {name: (dtype, shape)} in this order, bytes of their values)."""
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in described.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(NUMPY_TYPES[dtype]).itemsize
        entries[name] = {"dtype": HEADER_TYPES[dtype], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def _quantised(name, tensor, format, layout, loss):
    """The layout's parts of a matrix, in their order."""
    scale_type = layout.quantised.types["scales"]
    values = formats.get(tensor.dtype).unpack(tensor.read())

    def block(first):
        rows = values[first:first + BLOCK_ROWS]
        codes = format.quantise(rows)
        if codes.scales.dtype != scale_type:
            codes = _with_half_scales(format, codes, rows)
        return codes, rows, dequantised(codes)

    made = []
    for codes, rows, rounded in in_threads(block, range(0, len(values), BLOCK_ROWS)):
        loss.add(ROLES[".".join(name.split(".")[3:5])], rows, rounded)
        made.append(codes)
    codes = Codes(np.concatenate([part.codes for part in made]), np.concatenate([part.scales for part in made]))
    yield from layout.parts_of(codes).values()


def _with_half_scales(format, codes, rows):
    """Codes with scales that float16 holds, as the layout has them, and each code the nearest again."""
    scales = half_scales(codes.scales)
    grouped, top = rows.reshape(*scales.shape, -1) / scales[..., None], 1 << int(format.bits) - 1
    nearest = np.clip(np.rint(grouped), -top, top - 1).astype(np.int8)
    return Codes(nearest.reshape(rows.shape), scales.astype(np.float16))


ROLES = {"attn.c_attn": "qkv", "attn.c_proj": "out", "mlp.w1": "up", "mlp.w2": "gate", "mlp.c_proj": "down"}


def main():
    parser = ArgumentParser(prog="python -m export.quantise", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--weights", required=True, help=f"one of {', '.join(writable())}")
    options = parser.parse_args()
    loss = quantise(options.checkpoint, options.out, options.weights)
    print(*loss.lines(), options.out, sep="\n")


if __name__ == "__main__":
    run_cli(main)
