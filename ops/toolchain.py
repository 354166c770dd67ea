"""Finds what the operators are built with besides the C++ compiler: Paddle's headers, nvcc, CUDA's, architectures."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from ops import compiler
from ops.cuda_libraries import INSTALL, USUAL_TOOLKIT, nvidia_packages

OLDEST_CUDA = (11, 8)
OLDEST_CUDA_FOR_90A = (12, 0)
HEADERS = (("cuda_runtime_api.h", "nvidia-cuda-runtime"), ("cublasLt.h", "nvidia-cublas"))
COMPILERS_OWN = Path("/usr/include")
ARCHITECTURES = ("80", "86", "89", "90a")  # built for when no card is seen and CUDA_ARCHS= is not set


@dataclass(frozen=True)
class Paddle:
    """The installed wheel: its package folder, version, and whether it is the GPU wheel."""

    package: Path
    version: str
    gpu: bool

    @property
    def wheel(self):
        """The wheel's name and version, as ops.target.fault compares them."""
        return f"paddlepaddle{'-gpu' if self.gpu else ''} {self.version}"

    @property
    def include(self):
        """The folder of the headers that operators are compiled with; raises UserError if they are missing."""
        if not (self.package / "include" / "paddle" / "extension.h").is_file():
            raise UserError(f"{self.package} has no headers: reinstall the wheel (make clean setup)")
        return self.package / "include"


@dataclass(frozen=True)
class Cuda:
    """A CUDA toolkit: nvcc, its version, include folders, the static runtime's folder, architectures to build for."""

    nvcc: str
    version: tuple
    includes: tuple
    runtime: Path
    architectures: tuple

    @property
    def ptx(self):
        """The architecture whose PTX goes along, for cards newer than all of them: 90 for 90a, as PTX with an "a" runs
        on that very card alone."""
        return str(max(int(a.rstrip("a")) for a in self.architectures))


def paddle():
    """The wheel that this interpreter would import; raises UserError if there is none."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{sys.executable} has no paddle: run `make setup`")
    package = Path(spec.submodule_search_locations[0])
    text = (package / "version" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r"full_version\s*=\s*'([^']*)'", text)
    cuda = re.search(r"cuda_version\s*=\s*'([^']*)'", text)
    if version is None:
        raise UserError(f"{package} is no Paddle wheel: run `make setup`")
    return Paddle(package, version[1], cuda is not None and cuda[1] != "False")


def find_nvcc():
    """The CUDA compiler's path, or None."""
    home = os.environ.get("CUDA_HOME", "")
    candidates = [home and f"{home}/bin/nvcc", shutil.which("nvcc"), str(USUAL_TOOLKIT / "bin" / "nvcc"),
                  *(str(p) for root in nvidia_packages() for p in root.glob("*/bin/nvcc"))]
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


def cuda(wanted="", headers=HEADERS):
    """The CUDA toolkit to build with; `wanted` names architectures ("80 90a"), else the cards seen, else all.

    headers: (header, PyPI package that has it) of what the sources include.

    Raises UserError when nvcc or a header is missing, too old, or cannot build what is wanted, or with CXX.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise UserError(f"no nvcc: {INSTALL}, or set CUDA_HOME to a CUDA toolkit")
    release = re.search(r"release (\d+)\.(\d+)", _output(nvcc, "--version"))
    version = tuple(map(int, release.groups())) if release else (0, 0)
    if version < OLDEST_CUDA:
        raise UserError(f"{nvcc} is CUDA {version[0]}.{version[1]}, the kernels need 11.8 or newer: set CUDA_HOME")
    toolkit, library_folders = _toolkit(nvcc)
    folders = [toolkit / "include", toolkit / "include" / "cccl", *toolkit.glob("targets/*/include")]
    if not all(any((p / header).is_file() for p in folders) for header, _ in headers):
        folders += [p for root in nvidia_packages() for p in (*root.glob("*/include"), *root.glob("*/include/cccl"))]
    for header, package in headers:
        if not any((p / header).is_file() for p in folders):
            raise UserError(f"no {header} beside {nvcc}: {_remedy(package, version)}")
    libraries = [toolkit / "lib64", toolkit / "lib", *toolkit.glob("targets/*/lib"), *library_folders,
                 *(p for root in nvidia_packages() for p in root.glob("*/lib"))]
    runtime = next((p for p in libraries if (p / "libcudart_static.a").is_file()), None)
    if runtime is None:
        raise UserError(f"no libcudart_static.a beside {nvcc}: {_remedy('nvidia-cuda-runtime', version)}")
    # the compiler looks into its own folder anyway, and named before the others it would hide libc's headers from C++'s
    includes = tuple(p for p in folders if p.is_dir() and p != COMPILERS_OWN)
    _check_host_compiler(nvcc, version, includes)
    return Cuda(nvcc, version, includes, runtime, _architectures(nvcc, version, wanted))


def _check_host_compiler(nvcc, version, includes):
    """Raise UserError unless nvcc takes the C++ compiler."""
    name = compiler.find()
    folders = [word for path in includes for word in ("-isystem", path)]
    probe = subprocess.run([nvcc, *name.as_host, "-std=c++17", *folders, "-E", "-x", "cu", "/dev/null"],
                           capture_output=True, text=True)
    if probe.returncode == 0:
        return
    newest = re.search(r"gcc versions later than (\d+) are not supported", probe.stderr)
    if newest:
        raise UserError(f"{nvcc} is CUDA {version[0]}.{version[1]}, which takes no g++ newer than {newest[1]}: "
                        f"apt install g++-{newest[1]} and set CXX=g++-{newest[1]}")
    reason = next((line for line in probe.stderr.splitlines() if re.search("error|fatal", line)), "it gives no reason")
    raise UserError(f"{nvcc} does not compile with {name} ({reason.strip()}): set CXX= to a compiler that it takes")


def _architectures(nvcc, version, wanted):
    known = set(re.findall(r"compute_(\w+)", _output(nvcc, "--list-gpu-arch")))
    if version >= OLDEST_CUDA_FOR_90A:  # nvcc lists none of those that end in "a"
        known |= {f"{a}a" for a in known if a.isdigit() and int(a) >= 90}
    usual = _cards() or [a for a in ARCHITECTURES if a.rstrip("a") in known]
    chosen = wanted.replace(",", " ").split() or [a if a in known else a.rstrip("a") for a in usual]
    for architecture in chosen:
        number = architecture.rstrip("a")
        if not number.isdigit() or int(number) < 80:
            raise UserError(f"architecture {architecture}: the kernels need sm_80 or newer (CUDA_ARCHS=\"80 90a\")")
        if architecture not in known:
            raise UserError(f"{nvcc} cannot build for sm_{architecture}: set CUDA_ARCHS= or use a newer toolkit")
    return tuple(chosen)


def _cards():
    """Architectures of the cards in this machine, empty if there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    capabilities = {line.strip().replace(".", "") for line in
             _output("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader").splitlines()}
    return sorted("90a" if c == "90" else c for c in capabilities if c.isdigit())


def _toolkit(nvcc):
    """The toolkit's folder and the folders of its libraries, by what nvcc itself says (the nvcc on the path may be a
    script elsewhere, and a distribution's package has no folder of its own)."""
    dry = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null"], capture_output=True, text=True)
    said = dict(re.findall(r"^#\$ (TOP|LIBRARIES)=(.*)$", dry.stderr + dry.stdout, re.MULTILINE))
    folder = Path(said["TOP"].strip()) if "TOP" in said else Path(nvcc).resolve().parent.parent
    return folder.resolve(), [Path(flag[2:]) for flag in shlex.split(said.get("LIBRARIES", "")) if flag[:2] == "-L"]


def _remedy(package, version):
    """What to do where something is missing beside an nvcc of this version that a package has."""
    return INSTALL if version[0] >= 13 else f"{sys.executable} -m pip install {package}-cu{version[0]}"


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout
