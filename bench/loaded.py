"""The numeric libraries that a process has loaded (not: that are installed), with their versions."""

import contextlib
import ctypes
import re
from pathlib import Path

FAMILIES = {  # what people ask about -> file names without "lib" and ".so…"
    "CUDA runtime": r"cudart", "CUDA driver": r"cuda", "cuBLAS": r"cublas(Lt)?", "cuDNN": r"cudnn\w*",
    "NCCL": r"nccl", "oneDNN": r"(dnnl|mkldnn)", "MKL": r"mkl\w*", "OpenBLAS": r"\w*openblas\w*",
    "OpenMP": r"(gomp|iomp5|omp)"}
NAME = re.compile(r"lib(?P<name>[A-Za-z]\w*?)(?:-[0-9a-f]{8,})?\.so(?:\.(?P<version>[\d.]+))?$")


def _integer(library, function):
    value = ctypes.c_int()
    getattr(library, function)(ctypes.byref(value))
    return value.value


def _thousands(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def _cublas(library):
    ask = library.cublasLtGetProperty if "Lt" in Path(library._name).name else library.cublasGetProperty
    parts = []
    for which in range(3):  # major, minor, patch
        value = ctypes.c_int()
        ask(which, ctypes.byref(value))
        parts.append(str(value.value))
    return ".".join(parts)


def _cudnn(library):
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return str(library.cudnnGetVersion())


def _onednn(library):
    library.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
    return ".".join(map(str, library.dnnl_version().contents))


def _mkl(library):
    text = ctypes.create_string_buffer(198)
    library.MKL_Get_Version_String(text, len(text) - 1)
    return text.value.decode(errors="replace").strip()


ASK = {"CUDA runtime": lambda library: _thousands(_integer(library, "cudaRuntimeGetVersion")),
       "CUDA driver": lambda library: _thousands(_integer(library, "cuDriverGetVersion")),
       "cuBLAS": _cublas, "cuDNN": _cudnn, "oneDNN": _onednn, "MKL": _mkl}


def family_of(path):
    """(family, version in the file's name or "") of a library's path; None for any other file."""
    match = NAME.fullmatch(Path(path).name)
    if not match:
        return None
    for family, pattern in FAMILIES.items():
        if re.fullmatch(pattern, match["name"]):
            return family, match["version"] or ""
    return None


def loaded_libraries(maps="/proc/self/maps", ask=True):
    """{family: {file name: version}} of the libraries mapped into this process.

    The version is what the library itself answers, else what its file name tells, else "unknown". What a framework
    has linked into itself statically has no file and is not listed.
    """
    with open(maps, encoding="utf-8", errors="replace") as f:
        paths = {line.split(maxsplit=5)[5].strip() for line in f if line.count("/")}
    libraries = {}
    for path in sorted(paths):
        family_and_version = family_of(path)
        if not family_and_version:
            continue
        family, version = family_and_version
        if ask and family in ASK:
            with contextlib.suppress(OSError, AttributeError):  # not every part of a family answers
                version = ASK[family](ctypes.CDLL(path)) or version
        libraries.setdefault(family, {})[Path(path).name] = version or "unknown"
    return libraries
