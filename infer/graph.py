"""One exported graph in Paddle Inference: checked against its manifest, loaded, bound and run."""

import json
import os
import re
import time
from pathlib import Path

import psutil

from core.config import ModelConfig
from core.errors import UserError
from core.files import file_hash
from infer.parameters import load_packed, load_parameters, weights_as_inputs
from ops import formats
from ops.framework import import_paddle
from ops.weights import MATRICES, STAGES, parameter_shapes, tensor_names

SCHEMA = 3
MAX_MANIFEST_BYTES = 1 << 20


def cpu_threads():
    """Threads for the CPU: OMP_NUM_THREADS if set, else the physical cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").strip()
    if wanted:
        levels = [level.strip() for level in wanted.split(",")]  # OpenMP's list: a number per nested level
        if not all(re.fullmatch("0*[1-9][0-9]{0,3}", level) for level in levels):
            raise UserError(f"OMP_NUM_THREADS={wanted!r} is no number of threads from 1 to 9999: unset it, or give one "
                            "such as 4")
        return int(levels[0])
    return min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)))


class Manifest:
    """An exported graph's manifest.json: its config, dtype, implementation and files."""

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise UserError(f"no exported graph in {self.folder}: run `make export`")
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise ValueError("larger than 1 MiB")
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["schema"] != SCHEMA:
                raise UserError(f"{path} has schema {raw['schema']!r}, this version reads {SCHEMA}: "
                                "run `make export` again")
            self.graph, self.dtype, self.impl = raw["graph"], raw["dtype"], raw["impl"]
            self.operators, self.files = raw["operators"], raw["files"]
            self.checkpoint = raw["checkpoint"]
            texts = (self.graph, self.dtype, self.impl, self.operators, self.checkpoint["hash"])
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("a text is missing")
            for name, expected in self.files.items():
                kinds = (type(expected["bytes"]), type(expected["xxh3_128"]))
                if Path(name).name != name or kinds != (int, str):
                    raise ValueError(f"file entry {name!r}")
            config = raw["config"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise UserError(f"{path} is damaged ({e}): delete {self.folder}, then run `make export`") from None
        self.config = ModelConfig.from_dict(config, path)

    def check_files(self):
        """Raise UserError unless every file has the size and the hash that the export wrote down."""
        for name, expected in self.files.items():
            path = self.folder / name
            same_size = path.is_file() and path.stat().st_size == expected["bytes"]
            if not same_size or file_hash(path) != expected["xxh3_128"]:
                raise UserError(f"{path} is not the file that was exported: delete {self.folder}, then run "
                                "`make export`")


class Graph:
    """A loaded graph. Inputs are bound to Paddle tensors without a copy; state tensors keep the graph's writes.

    Attributes: manifest (Manifest), inputs (names), load_seconds (float), weights (str: the format of its
    matrices, of ops.formats).
    """

    def __init__(self, folder, device, pack=True):
        """Check and load `folder` (one exported graph) on `device` ("cpu" or "gpu").

        pack: keep the language model's matrices in a packed format where graph, weights and device allow it.
        """
        start = time.perf_counter()
        self.manifest = Manifest(folder)
        if self.manifest.impl == "stock":
            raise UserError(f"{folder} is a graph of the stock pipeline, which runs on its own: make infer IMPL=stock")
        if device == "cpu" and self.manifest.dtype != "float32":
            raise UserError(f"{folder} holds {self.manifest.dtype} weights, the CPU runs float32: "
                            "export with DTYPE=float32")
        self.manifest.check_files()
        import_paddle()
        if self.manifest.impl == "fused":
            from ops import library

            built = library.load(device)
            if built != self.manifest.operators:
                raise UserError(f"{folder} was exported for operators {self.manifest.operators}, the library built "
                                f"here is {built}: run `make export` again")
        from paddle import inference

        model, parameters = (self.manifest.folder / name for name in ("model.pdmodel", "model.pdiparams"))
        self.weights, tensors = self.manifest.dtype, {}
        if self.manifest.impl == "fused":
            tensors = self._load(parameters, device, pack)
            program, weights = weights_as_inputs(model.read_bytes(), formats.get(self.weights))
            config = inference.Config()
            config.set_model_buffer(program, len(program), b"", 0)
            config.switch_ir_optim(False)  # there is nothing to fuse
        else:
            config, weights = inference.Config(str(model), str(parameters)), []
        config.disable_glog_info()
        if device == "gpu":
            config.enable_use_gpu(64, 0)
        else:
            config.disable_gpu()
            config.disable_mkldnn()  # oneDNN prepares kernels for every new shape, and each decode step has one
            config.set_cpu_math_library_num_threads(cpu_threads())
        config.enable_memory_optim(True)
        self._predictor = inference.create_predictor(config)
        self._bound = {}  # Paddle shares the memory of what is bound but does not keep it alive
        self._inputs = {name: self._predictor.get_input_handle(name) for name in self._predictor.get_input_names()}
        self.inputs = frozenset(self._inputs) - frozenset(weights)
        (output,) = self._predictor.get_output_names()
        self._output = self._predictor.get_output_handle(output)
        self.bind(**tensors)
        self.load_seconds = time.perf_counter() - start

    def _load(self, path, device, pack):
        """The weights as tensors by name; says in `weights` how they are kept."""
        config, graph = self.manifest.config, self.manifest.graph
        names = sorted(parameter_shapes(config, graph))
        for kept in formats.packed(self.manifest.dtype) if pack and graph == "language" else ():
            tensors = kept.is_usable(config, device) and load_packed(path, names, device, kept)
            if tensors:
                self.weights = kept.name
                return tensors
        return load_parameters(path, names, device)

    def bind(self, **tensors):
        """Bind inputs by name; each tensor's memory is used as it is until another one is bound."""
        for name, tensor in tensors.items():
            if self._bound.get(name) is not tensor:
                self._inputs[name].share_external_data(tensor)
                self._bound[name] = tensor

    def operator_weights(self):
        """The weights of a fused graph as they are bound: {operator: weights as ops.functional takes them}."""
        kept = formats.get(self.weights)

        def bound(name):
            packed = name in MATRICES and kept.name != self.manifest.dtype
            return [self._bound[part] for part in tensor_names(name, kept)] if packed else self._bound[name]

        return {operator: {role: bound(f"{operator}.{role}") for role in roles(self.manifest.config)}
                for operator, roles in STAGES[self.manifest.graph].items()}

    def run(self):
        """Launch the graph once on what is bound."""
        self._predictor.run()

    def output(self):
        """The output of the last run as a numpy array."""
        return self._output.copy_to_cpu()
