"""scripts/setup.sh in a folder of its own, with wheels made here: what it installs, and when it starts anew."""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PADDLE = "2.6"
pytestmark = pytest.mark.skipif(sys.version_info >= (3, 13), reason="needs a Python that has both Paddles")
GOOD_PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
PYTHON_39 = "#!/bin/sh\necho 3.9\n"
NO_ENSUREPIP = """#!/bin/sh
case "$*" in *ensurepip*) exit 1;; *) echo 3.11;; esac
"""


def write_wheel(folder, name, version="0.1", module="paddle"):
    """A wheel that installs an empty module."""
    info = f"{name}-{version}.dist-info"
    files = {f"{module}/__init__.py": "",
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with setup.sh and a requirements.txt that asks for a wheel lying beside it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    for path in ("core/__init__.py", "core/errors.py", "core/pip.py", "core/terminal.py", "core/text.py",
                 "ops/__init__.py", "ops/compiler.py", "ops/cuda_libraries.py", "ops/target.py"):
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    (folder / "wheels").mkdir()
    for name, version in (("paddlepaddle", "0.1"), ("paddlepaddle_gpu", "0.1"), ("paddlepaddle", "3.1")):
        write_wheel(folder / "wheels", name, version)
    for version in ("0.1", "0.1+cpu"):
        write_wheel(folder / "wheels", "torch", version, "torch")
    write_wheel(folder / "wheels", "nvidia_cuda_runtime", "13.0", "nvidia_runtime")
    (folder / "requirements-gpu.txt").write_text("nvidia-cuda-runtime==13.0\n")
    (folder / "requirements-common.txt").write_text("--no-index\n--find-links wheels\ntorch==0.1\n")
    (folder / "requirements.txt").write_text("-r requirements-common.txt\npaddlepaddle==0.1\n")
    (folder / "requirements-3.txt").write_text("-r requirements-common.txt\npaddlepaddle==3.1\n")
    return folder


@pytest.fixture
def setup(project):
    """Run setup.sh with some variables; the interpreter is the one that runs the tests."""
    def run(*arguments, stdout=subprocess.PIPE, **variables):
        env = {key: value for key, value in os.environ.items() if key not in ("DEVICE", "PYTHON", "PADDLE", "CXX")}
        python = {} if "PATH" in variables else {"PYTHON": sys.executable}
        return subprocess.run(["/bin/bash", "scripts/setup.sh", *arguments], cwd=project, stdout=stdout,
                              stderr=subprocess.PIPE, text=True, env={**env, **python, **variables})
    return run


def interpreters(folder, **scripts):
    """A PATH with the tools that setup.sh calls, and these interpreters."""
    folder.mkdir()
    for tool in ("bash", "dirname", "grep", "sed", "tail", "touch", "rm", "flock", "g++"):
        (folder / tool).symlink_to(shutil.which(tool))
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return str(folder)


def installed(project, name="paddlepaddle*"):
    """Names and versions of the installed packages."""
    found = (project / ".venv").glob(f"lib/*/site-packages/{name}.dist-info")
    return sorted(path.name.removesuffix(".dist-info") for path in found)


def test_life_of_an_environment(project, setup):
    assert "missing" in setup("--check").stdout
    done = setup()
    assert done.returncode == 0, done.stderr
    assert (project / ".venv" / ".ready").read_text() == f"{VERSION} cpu {PADDLE}\n"
    assert installed(project, "[npt][!i]*") == ["paddlepaddle-0.1", "torch-0.1+cpu"]
    assert setup("--check").stdout == ""

    os.utime(project / "requirements.txt")
    assert "old" in setup("--check").stdout
    (project / ".venv" / "kept").touch()
    assert setup().returncode == 0 and (project / ".venv" / "kept").exists()

    assert ".ready says" in setup("--check", DEVICE="gpu").stdout
    assert setup(DEVICE="gpu").returncode == 0
    assert installed(project, "[npt][!i]*") == ["nvidia_cuda_runtime-13.0", "paddlepaddle_gpu-0.1", "torch-0.1"]
    assert setup("--check", DEVICE="auto").stdout == setup("--check", DEVICE="gpu").stdout == ""

    (project / ".venv" / ".installing").touch()  # as a killed installation leaves it
    assert setup().returncode == 0
    assert not (project / ".venv" / "kept").exists() and installed(project) == ["paddlepaddle-0.1"]


def test_a_reader_that_leaves_ends_no_installation(project, setup):
    shutil.rmtree(project / ".venv", ignore_errors=True)
    reading, writing = os.pipe()
    os.close(reading)
    done = setup(stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "") and (project / ".venv" / ".ready").exists()


@pytest.fixture
def driver_of_cuda_12(tmp_path):
    """LD_LIBRARY_PATH with an NVIDIA driver that runs CUDA 12.4 and older."""
    code = "int cuDriverGetVersion(int *version) { *version = 12040; return 0; }"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", tmp_path / "libcuda.so.1"], input=code, text=True,
                   check=True)
    return str(tmp_path)


def test_gpu_from_a_folder_of_wheels(project, setup, driver_of_cuda_12):
    """pip's own variables say where packages come from, requirements name no place; a driver that is too old is named
    before anything is fetched, and only where a GPU is asked for."""
    requirements = project / "requirements-common.txt"
    written = requirements.read_text()
    requirements.write_text("torch==0.1\n")
    try:
        shutil.rmtree(project / ".venv", ignore_errors=True)
        done = setup(DEVICE="gpu", LD_LIBRARY_PATH=driver_of_cuda_12)
        assert done.returncode == 1 and installed(project, "*runtime*") == []
        assert done.stderr == ("error: the NVIDIA driver runs CUDA 12.4 at most, requirements-gpu.txt brings CUDA "
                               "13.0: install driver 580 or newer, or use DEVICE=cpu\n")
        folder = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels")}
        assert setup(DEVICE="gpu", **folder).returncode == 0
        assert installed(project, "[npt][!i]*") == ["nvidia_cuda_runtime-13.0", "paddlepaddle_gpu-0.1", "torch-0.1"]
        assert setup(DEVICE="cpu", LD_LIBRARY_PATH=driver_of_cuda_12, **folder).returncode == 0
    finally:
        requirements.write_text(written)


def test_failed_installation_is_not_ready(project, setup):
    requirements = project / "requirements.txt"
    good = requirements.read_text()
    requirements.write_text(good.replace("0.1", "0.2"))
    done = setup()
    requirements.write_text(good)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: pip could not install")
    assert not (project / ".venv" / ".ready").exists()


@pytest.mark.parametrize("scripts, words", [
    ({}, "no Python 3.11, 3.12 or 3.13 found: apt install"),
    ({"python3": PYTHON_39}, "no Python 3.11, 3.12 or 3.13 found: apt install"),
    ({"python3": NO_ENSUREPIP}, "apt install python3-venv"),
])
def test_machine_without_a_fitting_python(tmp_path, setup, scripts, words):
    done = setup("--find", PATH=interpreters(tmp_path / "bin", **scripts))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and words in done.stderr


def test_first_fitting_python_is_taken(tmp_path, setup):
    path = interpreters(tmp_path / "bin", **{"python3": PYTHON_39, f"python{VERSION}": GOOD_PYTHON})
    assert setup("--find", PATH=path).stdout == f"{path}/python{VERSION}\n"


def test_given_python_that_does_not_fit(tmp_path, setup):
    path = interpreters(tmp_path / "bin", python3=PYTHON_39)
    done = setup("--find", PYTHON=f"{path}/python3")
    assert done.returncode == 1 and "is 3.9: Python 3.11, 3.12 or 3.13 is what works" in done.stderr
    assert "no interpreter that runs" in setup("--find", PYTHON="/no/python").stderr


@pytest.mark.parametrize("version, paddle, file", [
    ("3.11", "", "requirements.txt"), ("3.12", "", "requirements.txt"), ("3.13", "", "requirements-3.txt"),
    ("3.11", "3", "requirements-3.txt"), ("3.12", "2.6", "requirements.txt")])
def test_the_interpreter_and_paddle_choose_the_requirements(project, tmp_path, setup, version, paddle, file):
    shutil.rmtree(project / ".venv", ignore_errors=True)
    path = interpreters(tmp_path / "bin", python3=f'#!/bin/sh\ncase "$*" in *version*) echo {version};; esac\n')
    assert setup("--pins", PATH=path, PADDLE=paddle).stdout == f"{file}\n"


@pytest.mark.parametrize("version, paddle, said", [
    ("3.14", "", "no Python 3.11, 3.12 or 3.13 found: apt install"),
    ("3.13", "2.6", "no Python 3.11 or 3.12 for PADDLE=2.6 found"),
    ("3.14", "3", "no Python 3.11, 3.12 or 3.13 for PADDLE=3 found")])
def test_an_interpreter_that_is_too_new(tmp_path, setup, version, paddle, said):
    path = interpreters(tmp_path / "bin", python3=f"#!/bin/sh\necho {version}\n")
    done = setup("--find", PATH=path, PADDLE=paddle)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and said in done.stderr
    assert "or set PYTHON= to one, such as `uv python install 3.12` brings" in done.stderr
    given = setup("--find", PYTHON=f"{path}/python3", PADDLE=paddle)
    assert given.returncode == 1 and given.stderr.count("\n") == 1
    assert f"is {version}: Python 3.11" in given.stderr and "such as `uv python install 3.12` brings" in given.stderr


def test_the_other_paddle_gets_an_environment_of_its_own(project, setup):
    shutil.rmtree(project / ".venv", ignore_errors=True)
    assert setup(PADDLE="3").returncode == 0 and installed(project) == ["paddlepaddle-3.1"]
    (project / ".venv" / "kept").touch()
    assert setup("--check").stdout == setup("--check", PADDLE="3").stdout == ""  # what there is stays, unless asked
    assert ".ready says" in setup("--check", PADDLE="2.6").stdout
    done = setup(PADDLE="2.6")
    assert done.returncode == 0 and "Paddle 2.6" in done.stdout
    assert installed(project) == ["paddlepaddle-0.1"] and not (project / ".venv" / "kept").exists()


def test_where_a_gpu_wheel_of_paddle_3_comes_from(project, setup, tmp_path):
    shutil.rmtree(project / ".venv", ignore_errors=True)
    done = setup(PADDLE="3", DEVICE="gpu")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "PyPI has no GPU wheel of Paddle 3: set PIP_EXTRA_INDEX_URL to" in said and "or PIP_FIND_LINKS to" in said
    write_wheel(tmp_path, "paddlepaddle_gpu", "3.1")
    done = setup(PADDLE="3", DEVICE="gpu", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 0 and installed(project) == ["paddlepaddle_gpu-3.1"]


def test_no_compiler(project, setup):
    done = setup(CXX="no-such-compiler")
    assert done.returncode == 1 and done.stderr == "error: no C++ compiler (no-such-compiler): apt install g++\n"
    assert not (project / ".venv" / ".installing").exists()


@pytest.mark.parametrize("redirected", [
    {"PIP_USER": "1", "PIP_TARGET": "elsewhere", "PIP_PREFIX": "elsewhere", "PIP_ROOT": "elsewhere",
     "PIP_PYTHON": "/no/python", "PIP_DRY_RUN": "1", "CXX": ""},
    {"PIP_CONFIG_FILE": "[global]\nuser = true\nprefix = elsewhere\n[install]\nroot = elsewhere\ndry-run = true\n",
     "PIP_REQUIRE_VIRTUALENV": "1", "PIP_NO_INDEX": "1", "CXX": "env g++ -m64"},
    {"PIP_CONFIG_FILE": "[install]\ntarget = elsewhere\n", "CXX": "g++ -DNAME='a b'"}])
def test_packages_go_into_the_environment(project, setup, tmp_path, redirected):
    """Whatever pip's variables and files say of places; what they say of sources holds. CXX has launchers and flags."""
    values = {name: value.replace("elsewhere", str(tmp_path / "elsewhere")) for name, value in redirected.items()}
    if "PIP_CONFIG_FILE" in values:
        (tmp_path / "pip.conf").write_text(values["PIP_CONFIG_FILE"])
        values["PIP_CONFIG_FILE"] = str(tmp_path / "pip.conf")
    for info in (project / ".venv").glob("lib/*/site-packages/paddlepaddle*"):
        shutil.rmtree(info)
    done = setup(**values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(project) == ["paddlepaddle-0.1"] and not (tmp_path / "elsewhere").exists()


def test_two_at_once_are_one_after_the_other(setup, project):
    assert setup().returncode == 0
    ready = project / ".venv" / ".ready"
    with open(project / "scripts" / "setup.sh") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as a set-up that runs
        second = subprocess.Popen(["/bin/bash", "scripts/setup.sh"], cwd=project, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "PYTHON": sys.executable, "DEVICE": "auto"})
        assert second.stdout.readline() == "another make is setting up .venv: waiting for it\n"
        made = ready.stat().st_mtime_ns
    assert second.communicate()[0] == "" and second.returncode == 0
    assert ready.stat().st_mtime_ns == made  # there was nothing left to do
