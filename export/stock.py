"""`python -m export.stock CKPT OUT`: the language graph of the stock pipeline, exported by paddlenlp 2.8.1 itself.

It is what the published step `export_model.py --model_type qwen-img2txt` makes: paddlenlp's QWenForQWenVLInferenceModel
with its whole generation loop, over paddlenlp_ops. OUT/language holds it as model.pdmodel and model.pdiparams.
"""

import argparse
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np

from core.errors import UserError, run_cli
from core.files import atomic_dir
from core.ranks import VOCABULARY
from export import names
from export.checkpoint import open_whole
from export.dtypes import STORAGE, cast
from export.manifest import MANIFEST, write_manifest
from export.places import holding, output_folder
from ops import toolchain
from ops.framework import has_gpu_wheel, import_paddle, tensors
from ops.stock import build


class ConvertedWeights:
    """Tensors of an open checkpoint by their converted names, in Paddle's layout and in `dtype`, read when asked."""

    def __init__(self, checkpoint, dtype):
        self._checkpoint, self._dtype = checkpoint, dtype
        self._parameters = {p.paddle_name: p for p in names.parameters(checkpoint.config)}

    def __getitem__(self, name):
        parameter = self._parameters[name]
        stored = self._checkpoint.tensors[parameter.name]
        array = (stored.transposed if parameter.linear else stored).read()
        return np.ascontiguousarray(cast(array, stored.dtype, self._dtype, name))


def import_packages():
    """Import Paddle with paddlenlp and its operators; returns the model's class. Raises UserError."""
    import_paddle()
    build.check_versions(toolchain.paddle())
    try:
        import paddlenlp_ops  # noqa: F401  paddlenlp says nothing of use where it is missing
    except ImportError as e:
        raise UserError(f"the stock graph needs the package paddlenlp_ops ({e}): run `make ops`") from None
    if not has_gpu_wheel():
        raise UserError("the stock graph calls operators that Paddle's CPU wheel does not have: `make setup "
                        "DEVICE=gpu` installs the GPU wheel, no GPU is needed")
    try:
        from paddlenlp.experimental.transformers import QWenForQWenVLInferenceModel
    except ImportError as e:
        raise UserError(f"the stock graph needs paddlenlp 2.8.1 ({e}): pip install paddlenlp==2.8.1") from None
    return QWenForQWenVLInferenceModel


def load_model(kind, checkpoint, dtype):
    """An instance of paddlenlp's model class `kind` with the weights of an open checkpoint in `dtype`."""
    from paddlenlp.transformers import QWenConfig
    from paddlenlp.transformers.model_utils import no_init_weights

    config = QWenConfig.from_pretrained(str(checkpoint.path))
    config.tensor_parallel_degree, config.tensor_parallel_rank = 1, 0
    config.quant_type, config.weight_only_quant_bits = None, -1
    tensors.use_dtype(dtype)
    with no_init_weights():  # random numbers in half precision need a GPU
        model = kind(config)
    weights = ConvertedWeights(checkpoint, dtype)
    model.qwen.set_state_dict(weights)
    head = import_paddle().to_tensor(weights["lm_head.weight"], dtype=model.lm_head.weight.dtype)
    model.lm_head.weight.set_value(head)
    model.eval()
    return model


def export(source, out, dtype="float16"):
    """Write folder `out`/language: model.pdmodel, model.pdiparams, manifest.json, and qwen.tiktoken if there is one.

    The whole model is in memory, and once more while it is written. Raises UserError.
    """
    target = output_folder(Path(out) / "language", holding(MANIFEST))
    checkpoint = open_whole(source)
    if checkpoint.quantised:
        raise UserError(f"{source} has quantised weights, which the stock graph does not read: use IMPL=fused")
    identity = {"hash": checkpoint.hash(), "synthetic": checkpoint.synthetic}
    warnings.simplefilter("ignore")  # paddlenlp and Paddle's tracer warn of what they do to their own code
    kind = import_packages()
    logging.disable(logging.WARNING)
    import paddlenlp_ops

    model = load_model(kind, checkpoint, dtype)
    with atomic_dir(target) as folder:
        model.to_static(str(folder / "model"), {"dtype": dtype, "export_precache": False})
        (folder / "model.pdiparams.info").unlink()
        if (checkpoint.path / VOCABULARY).is_file():
            shutil.copyfile(checkpoint.path / VOCABULARY, folder / VOCABULARY)
        write_manifest(folder, "language", checkpoint.config, dtype, "stock", paddlenlp_ops.__version__,
                       import_paddle().__version__, identity)
    return target


def main():
    parser = argparse.ArgumentParser(prog="python -m export.stock", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--dtype", choices=sorted(STORAGE), default="float16")
    options = parser.parse_args()
    print(export(options.checkpoint, options.out, options.dtype))


if __name__ == "__main__":
    run_cli(main)
