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
from infer.formats import AUTO, choices, named
from infer.parameters import load_parameters, read_parameters, weights_as_inputs
from ops import formats, library
from ops.formats.base import Plain
from ops.framework import programs, wheel
from ops.framework.predictor import Predictor
from ops.quantisation import Quantisation
from ops.weights import HEAD, MATRICES, STAGES, stored_parameters, tensor_names

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
            self.checkpoint, self.paddle = raw["checkpoint"], raw["paddle"]
            texts = (self.graph, self.dtype, self.impl, self.operators, self.paddle, self.checkpoint["hash"])
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("a text is missing")
            for name, expected in self.files.items():
                kinds = (type(expected["bytes"]), type(expected["xxh3_128"]))
                if Path(name).name != name or kinds != (int, str):
                    raise ValueError(f"file entry {name!r}")
            config, quantised = raw["config"], raw.get("quantised")
            self.quantised = None if quantised is None else Quantisation.from_dict(quantised)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise UserError(f"{path} is damaged ({e}): delete {self.folder}, then run `make export`") from None
        self.config = ModelConfig.from_dict(config, path)
        group = self.quantised and self.quantised.group
        if group and (self.config.hidden_size % group or self.config.mlp_width % group):
            raise UserError(f"{path} is damaged (groups of {group} do not divide its matrices): delete {self.folder}, "
                            "then run `make export`")

    def check_files(self):
        """Raise UserError unless every file has the size and the hash that the export wrote down."""
        for name, expected in self.files.items():
            path = self.folder / name
            same_size = path.is_file() and path.stat().st_size == expected["bytes"]
            if not same_size or file_hash(path) != expected["xxh3_128"]:
                raise UserError(f"{path} is not the file that was exported: delete {self.folder}, then run "
                                "`make export`")

    def check_version(self):
        """Raise UserError unless the program is of the kind that this version of Paddle reads."""
        if programs.file_name() not in self.files:
            raise UserError(f"{self.folder} was exported by Paddle {self.paddle}, here is {wheel()}, which reads other "
                            "programs: run `make export` again")


def check_pair(vision, language, exported, target):
    """Raise UserError unless two graphs' manifests are of one export, which `target` of make writes to `exported`."""
    if any(getattr(vision, name) != getattr(language, name) for name in ("config", "dtype", "checkpoint")):
        raise UserError(f"the two graphs in {exported} come from different exports: run `make {target}` again")


class Graph:
    """A loaded graph. Inputs are bound to Paddle tensors without a copy; state tensors keep the graph's writes.

    Attributes: manifest (Manifest), inputs (names), load_seconds (float), weights (str: the formats of its matrices,
    as infer.formats names them), run (launches the graph once on what is bound), output (gives the last run's output
    as a numpy array).
    """

    def __init__(self, folder, placement, weights=AUTO):
        """Check and load `folder` (one exported graph) on a device.

        weights: the formats to keep the language model's matrices in, see infer.formats.
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
        self.manifest.check_version()
        self.manifest.check_files()
        if self.manifest.impl == "fused":
            built = library.load(placement)
            if built != self.manifest.operators:
                raise UserError(f"{folder} was exported for operators {self.manifest.operators}, the library built "
                                f"here is {built}: run `make export` again")
        threads = 1 if placement.on_gpu else cpu_threads()
        model, parameters = (self.manifest.folder / name for name in (programs.file_name(), "model.pdiparams"))
        wanted = choices(weights, self.manifest, placement) if self.manifest.graph == "language" else ()
        tensors, self._kept, bound = {}, {}, []
        stored = stored_parameters(self.manifest.config, self.manifest.graph, self.manifest.dtype, self.manifest.impl,
                                   self.manifest.quantised)
        if self.manifest.impl == "fused":
            tensors, self._kept = load_parameters(parameters, stored, placement, wanted)
            program, bound = weights_as_inputs(model.read_bytes(), self._kept)
            self._predictor = Predictor(program, None, placement, threads, fuse=False)
        else:
            read_parameters(parameters, stored)   # Paddle reads the file itself; what it says of another one is no line
            self._predictor = Predictor(model, parameters, placement, threads)
        self.inputs = frozenset(self._predictor.inputs) - frozenset(bound)
        self.run, self.output = self._predictor.run, self._predictor.output
        self.bind(**tensors)
        decoder, head = (self._kept.get(matrix, formats.get(self.manifest.dtype)) for matrix in (MATRICES[0], HEAD))
        self.weights = named(decoder, head)
        self.load_seconds = time.perf_counter() - start

    def bind(self, **tensors):
        """Bind inputs by name; each tensor's memory is used as it is until another one is bound."""
        for name, tensor in tensors.items():
            self._predictor.bind(name, tensor)

    def operator_weights(self):
        """The weights of a fused graph as they are bound: {operator: weights as ops.functional takes them}."""
        def bound(name):
            format = self._kept.get(name)
            if format is None or isinstance(format, Plain):
                return self._predictor.bound[name]
            return [self._predictor.bound[part] for part in tensor_names(name, format)]

        return {operator: {role: bound(f"{operator}.{role}") for role in roles(self.manifest.config)}
                for operator, roles in STAGES[self.manifest.graph].items()}
