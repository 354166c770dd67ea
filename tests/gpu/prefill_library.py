"""Calls of the kernel library through ctypes: argument structs are read from the headers, tensors pass as pointers."""

import ctypes
import re
from pathlib import Path

import torch

from ops import formats
from tests.gpu.kernels import library_path, pack_on_device

ROOT = Path(__file__).resolve().parents[2]
HEADERS = ROOT / "ops" / "kernels"
GEMM_WORKSPACE = 32 << 20  # bytes, QWEN_VL_GEMM_WORKSPACE
DTYPES = {torch.float16: 0, torch.bfloat16: 1}
SCALARS = {"int": ctypes.c_int, "int32_t": ctypes.c_int32, "long long": ctypes.c_longlong,
           "float": ctypes.c_float}


def _structs():
    """{launcher: its argument struct as a ctypes structure}, from the kernels' headers."""
    text = "".join(re.sub(r"//[^\n]*", "", path.read_text()) for path in sorted(HEADERS.rglob("*.h")))
    structs = {}
    for name, body in re.findall(r"struct (QwenVl\w+) \{(.*?)\};", text, re.S):
        fields = []
        for declaration in filter(None, (" ".join(d.split()) for d in body.split(";"))):
            kind, names = re.match(r"((?:const )?(?:long long|unsigned char|\w+))\s*(.*)", declaration).groups()
            for field in names.split(","):
                field = field.strip()
                pointer = field.startswith("*")
                fields.append((field.lstrip("* "), ctypes.c_void_p if pointer else SCALARS[kind]))
        structs[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    taken = re.findall(r"int qwen_vl_(\w+)\((?:QwenVlContext\* \w+, )?const (QwenVl\w+)\* ", text)
    return {launcher: structs[name] for launcher, name in taken}


class Library:
    """The launchers. Every call goes to torch's current stream and raises RuntimeError on a status other than 0.

    path: the kernels' library, tests.gpu.kernels.library_path() by default.
    """

    def __init__(self, path=None):
        torch.cuda.init()
        torch.ones(8, 8, device="cuda", dtype=torch.float16) @ torch.ones(8, 8, device="cuda", dtype=torch.float16)
        self.so = ctypes.CDLL(str(path or library_path()))
        self.so.qwen_vl_status_text.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p()
        self.workspace = torch.empty(GEMM_WORKSPACE, dtype=torch.uint8, device="cuda")
        self.check(self.so.qwen_vl_context_create(ctypes.byref(self.context), self.address(self.workspace)))
        if hasattr(self.so, "qwen_vl_gemm_tuning"):
            self.so.qwen_vl_gemm_tuning(1)  # an unseen product is timed before it is done
        self.structs = _structs()

    def close(self):
        self.so.qwen_vl_gemm_tuning(0)
        self.so.qwen_vl_context_destroy(self.context)

    def check(self, status):
        """Raise RuntimeError with the reason if a launcher returned a failure."""
        if status:
            raise RuntimeError(self.so.qwen_vl_status_text(status).decode())

    def struct(self, launcher, **values):
        """The launcher's argument struct, filled: tensors become pointers, the rest is taken as it is."""
        kind = self.structs[launcher]
        known = {field for field, _ in kind._fields_}
        if "format" in known and isinstance(values.get("format", ""), str):  # a packed format's name, or plain
            values["format"] = formats.NAMES.index(values["format"]) if values.get("format") else values.get("dtype", 0)
        unknown = set(values) - known
        assert not unknown, unknown
        return kind(**{k: v.data_ptr() if isinstance(v, torch.Tensor) else v for k, v in values.items()})

    def plain(self, name, *arguments):
        """A launcher without a struct; floats must come as ctypes.c_float."""
        converted = [self.address(a) if isinstance(a, torch.Tensor) else a for a in arguments]
        self.check(getattr(self.so, "qwen_vl_" + name)(*converted, self.stream()))

    def kernel(self, launcher, **values):
        """A launcher that takes its struct and a stream."""
        launch = getattr(self.so, "qwen_vl_" + launcher)
        self.check(launch(ctypes.byref(self.struct(launcher, **values)), self.stream()))

    def gemm(self, **values):
        arguments = self.struct("gemm", **values)
        self.so.qwen_vl_gemm_unpacked_bytes.restype = ctypes.c_size_t
        unpacked = torch.empty(self.so.qwen_vl_gemm_unpacked_bytes(ctypes.byref(arguments)), dtype=torch.uint8,
                               device="cuda")
        arguments.unpacked = unpacked.data_ptr()
        self.check(self.so.qwen_vl_gemm(self.context, ctypes.byref(arguments), self.stream()))

    def tile_shape(self, shape, **values):
        """The product in one of the tile shapes of products/hopper.h."""
        arguments = self.struct("gemm", **values)
        self.check(self.so.qwen_vl_gemm_hopper(ctypes.byref(arguments), shape, self.stream()))

    def pack(self, weight, format):
        """fp16 matrices [..., rows, columns] in a packed format, as bytes."""
        return pack_on_device(self.so, weight, format)

    def packed(self, weights, format):
        """The weights of a stage with its matrices in a packed format."""
        return {k: self.pack(v, format) if k.endswith("_weight") and not k.startswith("ln_") else v
                for k, v in weights.items()}

    def prepare_stage(self, launcher, **values):
        """A stage with its workspace allocated, as a callable that launches it."""
        arguments = self.struct(launcher, **values)
        size = getattr(self.so, f"qwen_vl_{launcher}_workspace")
        size.restype = ctypes.c_size_t
        workspace = torch.full((size(ctypes.byref(arguments)),), 255, dtype=torch.uint8, device="cuda")  # NaNs
        launch = getattr(self.so, "qwen_vl_" + launcher)

        def run():
            self.check(launch(self.context, ctypes.byref(arguments), self.address(workspace),
                              ctypes.c_size_t(workspace.numel()), self.stream()))
        run.tensors = [v for v in values.values() if isinstance(v, torch.Tensor)]
        run.workspace_bytes = workspace.numel()
        return run

    def stage(self, launcher, **values):
        self.prepare_stage(launcher, **values)()

    @staticmethod
    def address(tensor):
        return ctypes.c_void_p(tensor.data_ptr())

    @staticmethod
    def stream():
        return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)


def relative_error(value, reference):
    """Norm of the difference over the norm of the reference, in fp64; inf when a value is not finite."""
    value, reference = value.double(), reference.double()
    if not torch.isfinite(value).all():
        return float("inf")
    return float((value - reference).norm() / reference.norm())


def assert_as_good(value, same_dtype, reference):
    """`value` is at most 1.25 times as far from the fp32 reference as torch's result in the same dtype."""
    ours, torchs = relative_error(value, reference), relative_error(same_dtype, reference)
    assert ours <= 1.25 * torchs + 1e-7, f"relative error {ours:.3e}, torch's {torchs:.3e}"
