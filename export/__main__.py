"""`python -m export vision|language|all CKPT OUT`: a checkpoint to static graphs, weights streamed."""

import argparse
import shutil
from pathlib import Path

from core.errors import run_cli
from core.files import atomic_dir
from core.ranks import VOCABULARY
from export.checkpoint import open_whole
from export.dtypes import STORAGE
from export.manifest import MANIFEST, write_manifest
from export.params import parameter_bytes, write_parameters
from export.places import holding, output_folder
from export.progress import progress
from export.stack import stacked
from ops import library
from ops.framework import import_paddle, programs
from ops.weights import stored_parameters

GRAPHS = ("vision", "language")


def export(graphs, source, out, dtype="float32", impl="fused"):
    """Write folder `out`/<graph> for each of `graphs`: the program, model.pdiparams, manifest.json.

    The program is model.pdmodel with Paddle 2, model.json with Paddle 3. `language` also gets the checkpoint's
    qwen.tiktoken. Each folder is whole or as it was before. Raises UserError.
    """
    folders = {graph: output_folder(Path(out) / graph, holding(MANIFEST)) for graph in graphs}
    checkpoint = open_whole(source)
    identity = {"hash": checkpoint.hash(), "synthetic": checkpoint.synthetic}
    paddle = import_paddle()  # only now: a checkpoint's faults show at once
    from export.graphs import build_program

    operators = library.version() if impl == "fused" else ""
    for graph, target in folders.items():
        with atomic_dir(target) as folder:
            (folder / programs.file_name()).write_bytes(build_program(graph, checkpoint.config, dtype, impl))
            _write_weights(checkpoint, graph, dtype, impl, folder / "model.pdiparams")
            if graph == "language" and (checkpoint.path / VOCABULARY).is_file():
                shutil.copyfile(checkpoint.path / VOCABULARY, folder / VOCABULARY)
            write_manifest(folder, graph, checkpoint.config, dtype, impl, operators, paddle.__version__, identity,
                           checkpoint.quantised if impl == "fused" else None)


def _write_weights(checkpoint, graph, dtype, impl, path):
    stored = stored_parameters(checkpoint.config, graph, dtype, impl, checkpoint.quantised)
    with open(path, "wb") as file, progress(f"export {graph}", parameter_bytes(stored)) as advance:
        write_parameters(file, stored, lambda name: stacked(checkpoint, name, dtype), advance)


def main():
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("graph", choices=[*GRAPHS, "all"])
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--dtype", choices=sorted(STORAGE), default="float32")
    parser.add_argument("--impl", choices=["fused", "native"], default="fused")
    options = parser.parse_args()
    graphs = GRAPHS if options.graph == "all" else (options.graph,)
    export(graphs, options.checkpoint, options.out, options.dtype, options.impl)


if __name__ == "__main__":
    run_cli(main)
