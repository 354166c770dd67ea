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
from infer.parameters import load_packed, load_parameters
from ops.framework.predictor import Predictor
from ops.framework.programs import parameters_as_inputs
from ops.weights import PACKED, STAGES

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

    Attributes: manifest (Manifest), inputs (names), load_seconds (float), weights (str: the dtype, or "e5m7": float16
    with the matrices in 13 bits).
    """

    def __init__(self, folder, placement, pack=True):
        """Check and load `folder` (one exported graph) on a device.

        pack: keep the language model's matrices in 13 bits, without loss, where graph, weights and device allow it.
        """
        start = time.perf_counter()
        self.manifest = Manifest(folder)
        if self.manifest.impl == "stock":
            raise UserError(f"{folder} is a graph of the stock pipeline, which runs on its own: make infer IMPL=stock")
        if self.manifest.dtype not in placement.dtypes:
            raise UserError(f"{folder} holds {self.manifest.dtype} weights, the CPU runs float32: "
                            "export with DTYPE=float32")
        if placement.world > 1:
            raise UserError(f"{folder} cannot be shared by {placement.world} processes yet: load it on one device, "
                            "with world=1")
        self.manifest.check_files()
        if self.manifest.impl == "fused":
            from ops import library

            built = library.load(placement)
            if built != self.manifest.operators:
                raise UserError(f"{folder} was exported for operators {self.manifest.operators}, the library built "
                                f"here is {built}: run `make export` again")
        threads = 1 if placement.on_gpu else cpu_threads()
        model, parameters = (self.manifest.folder / name for name in ("model.pdmodel", "model.pdiparams"))
        if self.manifest.impl == "fused":
            program, weights = parameters_as_inputs(model.read_bytes())
            self._predictor = Predictor(program, None, placement, threads, fuse=False)
        else:
            weights = []
            self._predictor = Predictor(model, parameters, placement, threads)
        self.inputs = frozenset(self._predictor.inputs) - frozenset(weights)
        self.weights = self.manifest.dtype
        if weights:
            self.bind(**self._load(parameters, weights, placement, pack))
        self.load_seconds = time.perf_counter() - start

    def _load(self, path, names, placement, pack):
        """The weights as tensors by name; says in `weights` how they are kept."""
        if pack and placement.on_gpu and (self.manifest.graph, self.manifest.dtype) == ("language", "float16"):
            from ops import e5m7  # imports Paddle

            if e5m7.is_read_here() and self.manifest.config.kv_channels % e5m7.HEAD_DIM == 0:
                tensors, packed = load_packed(path, names, placement, e5m7.Packer(placement))
                self.weights = PACKED if packed else self.weights
                return tensors
        return load_parameters(path, names, placement)

    def bind(self, **tensors):
        """Bind inputs by name; each tensor's memory is used as it is until another one is bound."""
        for name, tensor in tensors.items():
            self._predictor.bind(name, tensor)

    def operator_weights(self):
        """The weights of a fused graph as they are bound: {operator: {role: tensor}}, roles in the operators' order."""
        return {operator: {role: self._predictor.bound(f"{operator}.{role}") for role in roles(self.manifest.config)}
                for operator, roles in STAGES[self.manifest.graph].items()}

    def run(self):
        """Launch the graph once on what is bound."""
        self._predictor.run()

    def output(self):
        """The output of the last run as a numpy array."""
        return self._predictor.output()
