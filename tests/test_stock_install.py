"""`make ops` in a fresh environment: the packages are built, installed and importable, and paddlenlp finds them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from ops import toolchain
from ops.stock import build, install

ROOT = Path(__file__).parent.parent
IMPORTS = """
import paddlenlp_ops, fused_ln
from paddlenlp.experimental.transformers import QWenForQWenVLInferenceModel
from paddlenlp.utils.import_utils import is_paddlenlp_ops_available
assert is_paddlenlp_ops_available() and paddlenlp_ops.__file__.startswith({prefix!r}), paddlenlp_ops.__file__
print("imported", QWenForQWenVLInferenceModel.__name__)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory, stock_paddle):
    """A new environment that sees the packages of this one but paddlenlp_ops; its interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    paths = {str(Path(importlib.util.find_spec(name).origin).parents[1]) for name in ("paddle", "paddlenlp", "pip")}
    (site / "these.pth").write_text("\n".join(sorted(paths)) + "\n")
    return folder / "bin" / "python"


def run(*command, **variables):
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(list(map(str, command)), cwd=ROOT, env={**env, **variables}, capture_output=True, text=True)


def test_make_ops_installs_into_a_fresh_environment(environment, stock_packages):
    device = Path(stock_packages).parent  # <build>/stock/<device>
    build_folder = device.parents[1]
    built = [f"{build_folder}/stock/{device.name}/packages/VERSION",
             *(f"{build_folder}/ops/{kind}/libqwen_vl_ops.so" for kind in ("cpu", "gpu"))]
    for _ in range(2):  # the second finds the work done
        done = run("make", "ops", f"BUILD={build_folder}", f"DEVICE={device.name}", f"PADDLE_PYTHON={environment}",
                   f"TORCH_PYTHON={sys.executable}", *(f"--old-file={path}" for path in built))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("paddlenlp_ops and fused_ln 2.8.1+") and "are installed in" in done.stdout
    done = run(environment, "-c", IMPORTS.format(prefix=str(environment.parents[1])))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported QWenForQWenVLInferenceModel"
    assert (Path(stock_packages) / "VERSION").read_text().startswith("2.8.1+")


def test_nothing_is_compiled_again(stock_packages, tmp_path):
    folder = Path(stock_packages)
    before = (folder / "VERSION").stat().st_mtime_ns
    made = build.build(folder.parent.name if folder.parent.name in ("cpu", "gpu") else "auto", folder.parent)
    assert made == folder and (folder / "VERSION").stat().st_mtime_ns == before


def test_ops_builds_and_installs(tmp_path):
    done = run("make", "-n", "ops", f"PADDLE_PYTHON={sys.executable}", f"TORCH_PYTHON={sys.executable}",
               f"BUILD={tmp_path}")
    assert done.returncode == 0, done.stderr
    steps = [line.split(" -m ")[1].split()[0] for line in done.stdout.splitlines() if " -m " in line]
    steps = [step for step in steps if step not in ("ops.wanted", "scripts.stamp")]
    assert steps == ["ops.build", "ops.stock.build", "ops.stock.install"]


def test_no_built_packages(tmp_path):
    with pytest.raises(UserError, match="run `make ops`"):
        install.install(tmp_path)


@pytest.mark.parametrize("module", ["pip", "setuptools"])
def test_missing_installer_is_named(tmp_path, monkeypatch, module):
    (tmp_path / "VERSION").write_text("0")
    found = importlib.util.find_spec
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(UserError, match=f"has no {module}: .*{module}"):
        install.install(tmp_path)


@pytest.mark.parametrize("paddle, paddlenlp, message", [
    ("3.3.1", "2.8.1", r"are for Paddle 2\.6\.2, /paddle is 3\.3\.1: make setup PADDLE=2\.6"),
    ("2.6.2", "3.0.0", r"paddlenlp 3\.0\.0 is installed, .*: pip install paddlenlp==2\.8\.1"),
])
def test_wheels_of_another_version_are_named_first(tmp_path, monkeypatch, paddle, paddlenlp, message):
    monkeypatch.setattr(toolchain, "paddle", lambda: toolchain.Paddle(Path("/paddle"), paddle, False))
    monkeypatch.setattr(build.importlib.metadata, "version", lambda name: paddlenlp)
    monkeypatch.setattr(build.operators, "run_ninja", lambda *_: pytest.fail("something was compiled"))
    with pytest.raises(UserError, match=message):
        build.build("cpu", tmp_path)


@pytest.mark.parametrize("device, gpu, nvcc, reason", [
    ("cpu", True, "/nvcc", "DEVICE=cpu"),
    ("auto", False, "/nvcc", "Paddle's CPU wheel is installed"),
    ("auto", True, None, "no nvcc: make setup DEVICE=gpu"),
])
def test_what_is_built_for_the_cpu_alone_says_why(tmp_path, monkeypatch, capsys, device, gpu, nvcc, reason):
    class Compiled(Exception):
        pass

    def compiled(*_):
        raise Compiled

    wheel = tmp_path / "paddle"
    (wheel / "include" / "paddle").mkdir(parents=True)
    (wheel / "include" / "paddle" / "extension.h").touch()
    monkeypatch.setattr(toolchain, "paddle", lambda: toolchain.Paddle(wheel, "2.6.2", gpu))
    monkeypatch.setattr(toolchain, "find_nvcc", lambda: nvcc)
    monkeypatch.setattr(build.operators, "run_ninja", compiled)
    with pytest.raises(Compiled):
        build.build(device, tmp_path / "stock")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"paddlenlp_ops and fused_ln with CPU kernels only ({reason}")


def test_asking_for_a_gpu_without_its_wheel_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain, "paddle", lambda: toolchain.Paddle(Path("/paddle"), "2.6.2", False))
    with pytest.raises(UserError, match="make setup DEVICE=gpu"):
        build.build("gpu", tmp_path)
