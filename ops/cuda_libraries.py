"""The CUDA libraries that Paddle's GPU wheel opens: found, and opened before Paddle asks for them.

The wheel brings none and opens them by bare names (libcublas.so), under which NVIDIA's packages have no file: theirs
is called libcublas.so.13. glibc answers a bare name with a library that is loaded already if that is its SONAME. So
`serve` loads, for every name, the library to use and an alias: an empty library whose SONAME is the bare name and which
needs the real one. No path has to be set before the process starts, and whoever asks for a name in it, Paddle or the
operators, gets the same library.

Where a name is looked for, in this order: NVIDIA's packages of this interpreter (torch's GPU build has the same ones),
$CUDA_HOME, the loader's own path (LD_LIBRARY_PATH, ldconfig), /usr/local/cuda; of several versions in a place the
newest that the driver runs. `python -m ops.cuda_libraries` prints {name: path or null} as JSON; with `--driver` it only
checks the driver. Standard library only: set-up and doctor run it before there are packages.
"""

import argparse
import ctypes
import functools
import importlib.util
import json
import os
import re
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError, run_cli

USUAL_TOOLKIT = Path("/usr/local/cuda")
PINS = Path(__file__).resolve().parent.parent / "requirements-gpu.txt"
OLDEST_DRIVERS = {11: "450", 12: "525", 13: "580"}  # that run any CUDA of that major version
INSTALL = f"make setup DEVICE=gpu, or {sys.executable} -m pip install -r {PINS.name}"  # brings all of CUDA
RTLD_DI_LINKMAP = 2


@dataclass(frozen=True)
class Name:
    """A bare name that Paddle opens: the versions it may have, the newest first; the package of requirements-gpu.txt
    that brings it; whether the versions are CUDA's, which the driver must be able to run; whether Paddle needs it."""

    versions: tuple
    package: str
    cuda: bool = False
    needed: bool = True


NAMES = {
    "libcublasLt.so": Name((13, 12, 11), "nvidia-cublas", cuda=True),
    "libcublas.so": Name((13, 12, 11), "nvidia-cublas", cuda=True),
    "libcudnn.so": Name((9, 8), "nvidia-cudnn-cu13"),
    "libnccl.so": Name((2,), "nvidia-nccl-cu13", needed=False),
}


def nvidia_packages():
    """Folders of the nvidia-* packages of this interpreter."""
    spec = importlib.util.find_spec("nvidia")
    return [Path(p) for p in spec.submodule_search_locations] if spec and spec.submodule_search_locations else []


@functools.cache
def driver_cuda():
    """The newest CUDA that this machine's NVIDIA driver can run, as (major, minor); None without a driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def pinned_cuda():
    """The CUDA of requirements-gpu.txt, as (major, minor)."""
    pin = re.search(r"^nvidia-cuda-runtime==(\d+)\.(\d+)", PINS.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(map(int, pin.groups()))


def check_driver():
    """Raise UserError if there is a driver that cannot run the CUDA of requirements-gpu.txt."""
    has, wanted = driver_cuda(), pinned_cuda()
    if has is not None and has[0] < wanted[0]:
        raise UserError(f"the NVIDIA driver runs CUDA {has[0]}.{has[1]} at most, {PINS.name} brings CUDA {wanted[0]}."
                        f"{wanted[1]}: install driver {OLDEST_DRIVERS[wanted[0]]} or newer, or use DEVICE=cpu")


def candidates(name):
    """Yield what dlopen could take to serve a name, the best first: paths, and file names for the loader's own path."""
    known, driver = NAMES[name], driver_cuda()
    files = [f"{name}.{v}" for v in known.versions if not (known.cuda and driver) or v <= driver[0]]
    home = os.environ.get("CUDA_HOME")
    packages = [folder for root in nvidia_packages() for folder in sorted(root.glob("*/lib"), reverse=True)]
    toolkit = [Path(home) / folder for folder in ("lib64", "lib")] if home else []
    yield from (folder / file for file in files for folder in packages if (folder / file).is_file())
    yield from (folder / file for folder in toolkit for file in files if (folder / file).is_file())
    yield from [name, *files]
    yield from (USUAL_TOOLKIT / "lib64" / file for file in files)


def load(name):
    """Load the library for a name, so that a dlopen of that name gets it; its path, or None if there is none."""
    for candidate in candidates(name):
        try:
            library = ctypes.CDLL(str(candidate))
        except OSError:
            continue
        path = _path_of(library)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(alias(name, path))
            ctypes.CDLL(str(file))
        return path
    return None


@functools.cache
def serve():
    """Load what serves each name, once per process; {name: path or None}. Without an NVIDIA driver, nothing: {}."""
    return {name: load(name) for name in NAMES} if driver_cuda() else {}


def check(served=None):
    """Raise UserError unless Paddle has every library that it needs on a GPU.

    served: {name: path or None}, by default what serves the names in this process.
    """
    if driver_cuda() is None:
        raise UserError("no NVIDIA driver (libcuda.so.1) on this machine: use DEVICE=cpu")
    for name, path in (serve() if served is None else served).items():
        if path is None and NAMES[name].needed:
            check_driver()
            raise UserError(f"no {name} for Paddle's GPU wheel: {INSTALL}, or set LD_LIBRARY_PATH to a folder that "
                            "has it")


def alias(soname, library):
    """The bytes of a shared object for x86-64 that is called `soname`, is empty, and needs the file `library`."""
    name, needed = soname.encode(), os.fsencode(library)
    strings = b"\0" + name + b"\0" + needed + b"\0"
    symbols = 64 + 3 * 56                # behind the file's header and three program headers: one symbol, the null one
    dynamic = symbols + 24
    entries = [(1, len(name) + 2),       # DT_NEEDED
               (14, 1),                  # DT_SONAME
               (5, dynamic + 7 * 16),    # DT_STRTAB
               (10, len(strings)),       # DT_STRSZ
               (6, symbols), (11, 24),   # DT_SYMTAB, DT_SYMENT
               (0, 0)]
    size = dynamic + 7 * 16 + len(strings)
    segments = [(1, 0, size, 4096),                   # PT_LOAD
                (2, dynamic, 7 * 16, 8),              # PT_DYNAMIC
                (0x6474E551, 0, 0, 16)]               # PT_GNU_STACK: without it the stack would become executable
    return b"".join([
        struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0),
        *(struct.pack("<IIQQQQQQ", kind, 6, at, at, at, length, length, align) for kind, at, length, align in segments),
        bytes(24), *(struct.pack("<QQ", *entry) for entry in entries), strings])


def _path_of(library):
    """The path that a loaded library was found at."""
    link_map = ctypes.POINTER(ctypes.c_char_p)()
    ctypes.CDLL(None).dlinfo(ctypes.c_void_p(library._handle), RTLD_DI_LINKMAP, ctypes.byref(link_map))
    return Path(os.fsdecode(link_map[1])).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", action="store_true", help="only check the driver")
    if parser.parse_args().driver:
        return check_driver()
    print(json.dumps({name: path and str(path) for name, path in ((name, load(name)) for name in NAMES)}))


if __name__ == "__main__":
    run_cli(main)
