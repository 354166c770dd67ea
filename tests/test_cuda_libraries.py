"""Which library serves a bare name that Paddle opens: stand-ins in all the places, and a dlopen as Paddle's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from ops import cuda_libraries

ROOT = Path(__file__).parent.parent
NAMES = list(cuda_libraries.NAMES)
# Like Paddle: another library of the process opens a bare name, and asks that handle for a symbol.
CALLER = """
#include <dlfcn.h>
int ask(const char *name) {
    void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    int (*which)(void) = library ? (int (*)(void))dlsym(library, "which") : 0;
    return which ? which() : -1;
}
"""
ASK = """
import ctypes, json, sys
from ops import cuda_libraries
before = cuda_libraries.serve()
caller = ctypes.CDLL(sys.argv[1])
print(json.dumps([{name: path and str(path) for name, path in before.items()},
                  {name: caller.ask(name.encode()) for name in cuda_libraries.NAMES}]))
"""


def compiled(path, code, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", path, *options], input=code, text=True, check=True)
    return path


def standin(folder, file, answer, soname=None):
    """A library with a SONAME, by default its file's name, that answers which it is."""
    return compiled(folder / file, f"int which(void) {{ return {answer}; }}", f"-Wl,-soname,{soname or file}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A driver of CUDA 13.0, one of 12.4, and the library that asks."""
    folder = tmp_path_factory.mktemp("machine")
    for version in (13000, 12040):
        code = f"int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}"
        compiled(folder / str(version) / "libcuda.so.1", code)
    return compiled(folder / "caller.so", CALLER, "-ldl").parent


@pytest.fixture
def served(machine, tmp_path):
    """Ask in a new process: ({name: path} as stated, {name: which library a dlopen of it gets})."""
    def run(*folders, driver=13000, **variables):
        env = {key: value for key, value in os.environ.items() if key not in ("CUDA_HOME", "LD_LIBRARY_PATH")}
        env |= {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", **variables}
        env["LD_LIBRARY_PATH"] = ":".join(map(str, (machine / str(driver), *folders)))
        done = subprocess.run([sys.executable, "-c", ASK, machine / "caller.so"], env=env, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (tmp_path / "site" / "nvidia").mkdir(parents=True)
    (tmp_path / "site" / "nvidia" / "__init__.py").touch()  # hides the packages that are installed here
    return run


def packages(tmp_path):
    """NVIDIA's packages as torch has them, {name: path}; the answers are 1, 2, 3 and 4 in the order of NAMES."""
    nvidia = tmp_path / "site" / "nvidia"
    nvidia.mkdir(parents=True, exist_ok=True)
    (nvidia / "__init__.py").touch()
    places = {"libcublasLt.so": ("cu13", 13), "libcublas.so": ("cu13", 13), "libcudnn.so": ("cudnn", 9),
              "libnccl.so": ("nccl", 2)}
    return {name: str(standin(nvidia / folder / "lib", f"{name}.{version}", NAMES.index(name) + 1))
            for name, (folder, version) in places.items()}


def test_bare_names_get_the_libraries_of_the_packages(served, tmp_path):
    """Which have other SONAMEs, and come before what LD_LIBRARY_PATH has under the bare name itself."""
    paths = packages(tmp_path)
    for name in NAMES:
        standin(tmp_path / "elsewhere", name, 99)
    assert served(tmp_path / "elsewhere") == [paths, dict(zip(NAMES, (1, 2, 3, 4)))]


def test_the_loaders_own_path_serves_where_there_are_no_packages(served, tmp_path):
    own = {"libcublasLt.so": standin(tmp_path / "own", "libcublasLt.so", 5), "libcublas.so":
           standin(tmp_path / "own", "libcublas.so.12", 6)}
    paths, answers = served(tmp_path / "own")
    assert [paths[name] for name in own] == [str(path) for path in own.values()]
    assert [answers[name] for name in own] == [5, 6]


def test_a_toolkit_of_the_users_serves(served, tmp_path):
    path = standin(tmp_path / "toolkit" / "lib64", "libcublas.so.12", 7)
    paths, answers = served(CUDA_HOME=str(tmp_path / "toolkit"))
    assert paths["libcublas.so"] == str(path) and answers["libcublas.so"] == 7


def test_a_cuda_that_the_driver_cannot_run_is_passed_over(served, tmp_path):
    newer = packages(tmp_path)
    older = standin(tmp_path / "site" / "nvidia" / "cublas" / "lib", "libcublas.so.12", 8)
    paths, answers = served(driver=12040)
    assert paths["libcublas.so"] == str(older) and answers["libcublas.so"] == 8
    assert paths["libcublasLt.so"] != newer["libcublasLt.so"] and answers["libcudnn.so"] == 3


def test_they_are_there_while_paddle_is_imported(machine, tmp_path):
    packages(tmp_path)
    site = tmp_path / "site"
    (site / "paddle").mkdir()
    (site / "paddle" / "__init__.py").write_text("import ctypes\nfound = ctypes.CDLL('libcublas.so').which()\n")
    wheel = site / "paddlepaddle_gpu-2.6.2.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: paddlepaddle-gpu\nVersion: 2.6.2\n")
    code = "from ops.framework import import_paddle; print(import_paddle().found)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        **os.environ, "PYTHONPATH": f"{site}:{ROOT}", "LD_LIBRARY_PATH": str(machine / "13000")})
    assert done.stdout == "2\n", done.stderr


def test_nothing_is_loaded_without_a_driver(served, tmp_path):
    packages(tmp_path)
    if cuda_libraries.driver_cuda():
        pytest.skip("this machine has an NVIDIA driver")
    paths, answers = served(driver="none")
    assert paths == {} and set(answers.values()) == {-1}


def test_what_is_missing_is_named_with_its_remedy(monkeypatch):
    whole = {name: Path(f"/x/{name}.13") for name in NAMES}
    monkeypatch.setattr(cuda_libraries, "driver_cuda", lambda: (13, 0))
    cuda_libraries.check(whole)
    cuda_libraries.check(whole | {"libnccl.so": None})
    remedy = f"make setup DEVICE=gpu, or {re.escape(sys.executable)} -m pip install -r requirements-gpu.txt, or set LD_"
    with pytest.raises(UserError, match=f"^no libcudnn.so for .*: {remedy}"):
        cuda_libraries.check(whole | {"libcudnn.so": None})
    monkeypatch.setattr(cuda_libraries, "driver_cuda", lambda: (12, 4))
    with pytest.raises(UserError, match=r"driver runs CUDA 12\.4 at most, .* brings CUDA 13\.0: install driver 580 or"):
        cuda_libraries.check(whole | {"libcublas.so": None})
    monkeypatch.setattr(cuda_libraries, "driver_cuda", lambda: None)
    with pytest.raises(UserError, match="no NVIDIA driver .*: use DEVICE=cpu"):
        cuda_libraries.check(whole)


def test_requirements_are_one_cuda_and_bring_every_library():
    lines = [line for line in cuda_libraries.PINS.read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert {name.package for name in cuda_libraries.NAMES.values()} <= set(pins)
    toolkit = {tuple(map(int, pins[name].split(".")[:2])) for name in pins if "-cuda-" in name or name == "nvidia-nvvm"}
    assert toolkit == {cuda_libraries.pinned_cuda()}
    assert {int(name.rpartition("-cu")[2]) for name in pins if name[-1].isdigit()} == {cuda_libraries.pinned_cuda()[0]}
