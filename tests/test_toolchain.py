"""What the operators are built with is found, or named with its remedy before anything is compiled."""

import shutil
import subprocess
import sys

import pytest

from core.errors import UserError
from ops import build, compiler, toolchain

EVERYTHING = r"make setup DEVICE=gpu, or \S*python\S* -m pip install -r requirements-gpu\.txt$"
NVCC = """#!/bin/sh
case "$*" in
    *--version*) echo "Cuda compilation tools, release {release}, V{release}.1" ;;
    *--list-gpu-arch*) printf 'compute_80\\ncompute_86\\ncompute_89\\ncompute_90\\n' ;;
    *--dryrun*) echo '#$ {says}' >&2 ;;
    *-E*) {preprocess} ;;
esac
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """A CUDA toolkit with every file that the build looks for; no card and no NVIDIA package beside it."""
    def make(release="12.4", without=(), says=f"TOP={tmp_path}", preprocess="exit 0", more=()):
        whole = {"include/cuda_runtime_api.h", "include/cublasLt.h", "lib64/libcudart_static.a"}
        for name in whole - set(without) | set(more):
            executable(tmp_path / name, "")
        executable(tmp_path / "bin" / "nvcc", NVCC.format(release=release, says=says, preprocess=preprocess))
        return tmp_path
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "nvidia_packages", list)
    monkeypatch.setattr(toolchain, "_cards", list)
    return make


def test_a_wheel_without_headers_runs_but_compiles_nothing(tmp_path):
    package = tmp_path / "paddle"
    executable(package / "__init__.py", "")
    executable(package / "version" / "__init__.py", "full_version    = '2.6.2'\ncuda_version    = 'False'\n")
    code = "from ops import build, toolchain; print(toolchain.paddle().wheel); build.binding_flags(toolchain.paddle())"
    ran = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{tmp_path}:{build.ROOT}"},
                         capture_output=True, text=True)
    assert ran.stdout == "paddlepaddle 2.6.2\n"
    assert f"UserError: {package} has no headers: reinstall the wheel (make clean setup)" in ran.stderr


def test_a_whole_toolkit(toolkit):
    home = toolkit()
    found = toolchain.cuda()
    assert found.version == (12, 4) and found.runtime == home / "lib64" and home / "include" in found.includes
    assert found.architectures == ("80", "86", "89", "90a")
    assert toolchain.cuda("80, 90a").architectures == ("80", "90a")


@pytest.mark.parametrize("wanted, ptx", [("80", "80"), ("80 90a", "90"), ("90", "90"), ("86, 80", "86")])
def test_newer_cards_get_the_newest_ptx(toolkit, wanted, ptx):
    toolkit()
    cuda = toolchain.cuda(wanted)
    assert cuda.ptx == ptx
    description = dict.fromkeys(["compiler", "cuda", "environment", "instructions"], "") | {"march": "native"}
    lines = build.rule_lines(description, compiler.parse("ccache g++ -m64"), cuda)
    nvcc = next(line for line in lines if line.startswith("nvcc"))
    assert "-ccbin g++ -Xcompiler=-m64" in nvcc
    for code in (*(f"arch=compute_{a},code=sm_{a}" for a in cuda.architectures),
                 f"arch=compute_{ptx},code=compute_{ptx}"):
        assert f"-gencode {code}" in nvcc


def test_cards_decide_where_nothing_is_asked_for(toolkit, monkeypatch):
    toolkit()
    monkeypatch.setattr(toolchain, "_cards", lambda: ["90a"])
    assert toolchain.cuda().architectures == ("90a",)


@pytest.mark.parametrize("seen, chosen", [([], ("80", "86", "89", "90")), (["90a"], ("90",))])
def test_90a_is_chosen_only_where_the_compiler_knows_it(toolkit, monkeypatch, seen, chosen):
    monkeypatch.setattr(toolchain, "_cards", lambda: seen)
    toolkit("11.8")
    assert toolchain.cuda().architectures == chosen
    toolkit("12.0")
    assert toolchain.cuda().architectures == (*chosen[:-1], "90a")


@pytest.mark.parametrize("release, architectures, note", [
    ("11.8", "80 90", " (without those of sm_90a, which need CUDA 12 or newer)"),
    ("11.8", "80", ""),
    ("12.4", "90", ""),
])
def test_the_build_says_what_is_left_out(toolkit, tmp_path, monkeypatch, capsys, release, architectures, note):
    toolkit(release)
    monkeypatch.setattr(build, "run_ninja", lambda *_: None)
    build.build("kernels", tmp_path, architectures=architectures)
    names = " ".join(f"sm_{a}" for a in architectures.split())
    assert capsys.readouterr().out == f"kernels for {names}, CUDA {release}{note}\n"


def test_a_toolkit_installed_into_the_system(toolkit, tmp_path, monkeypatch):
    home = toolkit(without=["lib64/libcudart_static.a"], more=["lib/some-target/libcudart_static.a"],
                   says=f"LIBRARIES=  -L{tmp_path}/lib/some-target/stubs -L{tmp_path}/lib/some-target")
    other = executable(tmp_path / "packages" / "runtime" / "include" / "cuda_runtime_api.h", "").parent
    monkeypatch.setattr(toolchain, "nvidia_packages", lambda: [tmp_path / "packages"])
    monkeypatch.setattr(toolchain, "COMPILERS_OWN", home / "include")
    found = toolchain.cuda()
    assert found.runtime == home / "lib" / "some-target" and found.includes == ()
    (home / "include" / "cublasLt.h").rename(other / "cublasLt.h")
    assert toolchain.cuda().includes == (other,)


@pytest.mark.parametrize("stderr, message", [
    ("x.h:132:2: error: #error -- unsupported GNU version! gcc versions later than 11 are not supported! The flag ...",
     r"nvcc is CUDA 11\.8, which takes no g\+\+ newer than 11: apt install g\+\+-11 and set CXX=g\+\+-11$"),
    ("In file included from x.h\nx.h:135:2: error: #error -- unsupported clang version!\n^",
     r"nvcc does not compile with .* \(x\.h:135:2: error: #error -- unsupported clang version!\): set CXX= to"),
    ("", r"nvcc does not compile with .* \(it gives no reason\): set CXX= to"),
])
def test_a_compiler_that_nvcc_does_not_take(toolkit, stderr, message):
    toolkit("11.8", preprocess=f"printf '%s' '{stderr}' >&2; exit 1")
    with pytest.raises(UserError, match=message):
        toolchain.cuda()


@pytest.mark.parametrize("release, without, wanted, message", [
    ("11.7", (), "", r"is CUDA 11\.7, the kernels need 11\.8 or newer: set CUDA_HOME"),
    ("12.4", ("include/cublasLt.h",), "", r"no cublasLt\.h beside .*: \S*python\S* -m pip install nvidia-cublas-cu12$"),
    ("13.0", ("include/cuda_runtime_api.h",), "", f"no cuda_runtime_api.h .*: {EVERYTHING}"),
    ("12.4", ("lib64/libcudart_static.a",), "", r"no libcudart_static\.a .* install nvidia-cuda-runtime-cu12$"),
    ("13.0", ("lib64/libcudart_static.a",), "", f"no libcudart_static.a .*: {EVERYTHING}"),
    ("12.4", (), "75", "architecture 75: the kernels need sm_80 or newer"),
    ("12.4", (), "80 x", "architecture x"),
    ("12.4", (), "100a", "cannot build for sm_100a"),
    ("12.4", (), "80a", "cannot build for sm_80a"),
    ("11.8", (), "80 90a", "cannot build for sm_90a: set CUDA_ARCHS= or use a newer toolkit"),
])
def test_what_is_missing_is_named(toolkit, release, without, wanted, message):
    toolkit(release, without)
    with pytest.raises(UserError, match=message):
        toolchain.cuda(wanted)


def test_no_compiler_and_an_old_one(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler \(no-such-compiler\): apt install g\+\+"):
        compiler.find()
    monkeypatch.setenv("CXX", str(executable(tmp_path / "g++-7", "#!/bin/sh\necho 7\n")))
    with pytest.raises(UserError, match="is too old"):
        compiler.find()


def test_a_compiler_without_its_headers(monkeypatch, tmp_path):
    fake = executable(tmp_path / "g++-12", "#!/bin/sh\ncase $1 in -dumpversion) echo 12;; *) exit 1;; esac\n")
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(UserError, match=r"does not compile C\+\+17 with its standard headers: apt install g\+\+"):
        compiler.find()


def test_no_nvcc(monkeypatch, tmp_path):
    """What brings it is named; a package of this interpreter has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(toolchain, "USUAL_TOOLKIT", tmp_path / "cuda")
    monkeypatch.setattr(toolchain, "nvidia_packages", lambda: [tmp_path / "nvidia"])
    with pytest.raises(UserError, match="no nvcc: make setup DEVICE=gpu, or .*, or set CUDA_HOME"):
        toolchain.cuda()
    nvcc = executable(tmp_path / "nvidia" / "cu13" / "bin" / "nvcc", "")
    assert toolchain.find_nvcc() == str(nvcc)
    usual = executable(tmp_path / "cuda" / "bin" / "nvcc", "")
    assert toolchain.find_nvcc() == str(usual)


def test_only_the_headers_that_are_included_are_asked_for(toolkit):
    toolkit(without=["include/cublasLt.h"])
    assert toolchain.cuda(headers=[("cuda_runtime_api.h", "nvidia-cuda-runtime")]).version == (12, 4)
    with pytest.raises(UserError, match=r"no thrust/complex\.h beside .* install nvidia-cuda-cccl-cu12$"):
        toolchain.cuda(headers=[("thrust/complex.h", "nvidia-cuda-cccl")])


def test_the_gpu_library_needs_the_gpu_wheel():
    if toolchain.paddle().gpu:
        pytest.skip("the GPU wheel is installed here")
    done = subprocess.run([sys.executable, "-m", "ops.build", "--device", "gpu"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "make setup DEVICE=gpu" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, which is not installed")
def test_this_machines_toolkit():
    found = toolchain.cuda("80", [("cuda_runtime_api.h", "nvidia-cuda-runtime")])
    assert found.architectures == ("80",) and (found.runtime / "libcudart_static.a").is_file()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, which is not installed")
@pytest.mark.parametrize("kernel", ["prefill/embedding", "common/norm", "prefill/rope_cache"])
def test_kernels_compile(kernel, tmp_path):
    root = toolchain.Path(__file__).parents[1]
    done = subprocess.run(["nvcc", "-std=c++17", "-O0", "-gencode", "arch=compute_80,code=sm_80", f"-I{root}", "-c",
                           root / f"ops/kernels/{kernel}.cu", "-o", tmp_path / "kernel.o"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
