"""`python -m export.convert CKPT OUT`: any published checkpoint to Paddle's names and layout, values unchanged."""

import argparse
import json
import shutil

from core.errors import run_cli
from core.files import atomic_dir, file_hash
from export import names
from export.checkpoint import CONVERSION, COPIED_FILES, WEIGHTS, open_whole
from export.pdparams_writer import Writer
from export.places import holding, output_folder
from export.progress import progress
from export.readers.quantised import QuantisedTensor


def convert(source, out):
    """Write model_state.pdparams, config.json and the tokenizer's files of checkpoint `source` to folder `out`.

    Language tensors are named `qwen.`, the vision tower `visual.`, Linear weights are [in, out]. One tensor is in
    memory at a time. Raises UserError; then `out` is as it was before.
    """
    out = output_folder(out, holding(CONVERSION), source)
    checkpoint = open_whole(source)
    with atomic_dir(out) as folder:
        with open(folder / WEIGHTS, "wb") as file:
            _write(checkpoint, file)
        for name in COPIED_FILES:
            if (checkpoint.path / name).is_file():
                shutil.copyfile(checkpoint.path / name, folder / name)
        origin = {"source_hash": checkpoint.hash(), "weights_hash": file_hash(folder / WEIGHTS)}
        (folder / CONVERSION).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return out


def _write(checkpoint, file):
    written = [(name, tensor) for p in names.parameters(checkpoint.config)
               for name, tensor in _converted(p, checkpoint.tensors[p.name])]
    writer = Writer(file)
    with progress("convert", sum(tensor.values * tensor.item_bytes for _, tensor in written)) as advance:
        for name, tensor in written:
            writer.begin(name, tensor.shape, tensor.dtype, tensor.values * tensor.item_bytes)
            for block in tensor.blocks():
                writer.write(block)
                advance(block.nbytes)
    writer.close()


def _converted(parameter, tensor):
    """(name, StoredTensor) of what stands for a parameter in Paddle's file: codes stay in the layout that they have."""
    if isinstance(tensor, QuantisedTensor):
        matrix = parameter.paddle_name.removesuffix("weight")
        return [(matrix + part, stored) for part, stored in tensor.parts.items()]
    return [(parameter.paddle_name, tensor.transposed if parameter.linear else tensor)]


def main():
    parser = argparse.ArgumentParser(prog="python -m export.convert", description=__doc__)
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("out", metavar="OUT")
    options = parser.parse_args()
    print(convert(options.checkpoint, options.out))


if __name__ == "__main__":
    run_cli(main)
