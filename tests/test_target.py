"""A library says what it was built for; one for another machine is refused before it is loaded, and built again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from ops import build, compiler, target, wanted

ROOT = Path(__file__).parent.parent
BUILT = {"sources": "abc", "march": "native", "instructions": ["avx2", "sse2"], "cpu": ["avx2", "f16c", "sse2"],
         "paddle": "paddlepaddle 2.6.2", "architectures": ["80", "86", "90a"], "ptx": "90"}


def library(path, built):
    """A file with the description that a library has, and other bytes around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\0" * 99 + target.MARK + json.dumps(built).encode() + b"\0more\0")
    return path


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """This machine has a CPU with these flags."""
    def has(flags):
        (tmp_path / "cpuinfo").write_text(f"model name\t: a CPU\nflags\t\t: fpu {flags}\nbugs\t\t: avx512f\n")
        monkeypatch.setattr(target, "CPUINFO", str(tmp_path / "cpuinfo"))
    return has


def test_names_of_compilers_and_of_the_kernel_meet(cpuinfo):
    cpuinfo("pni sse4_1 abm bmi1 avx512_vnni avx512vl avx_vnni md_clear")
    macros = ["SSE3", "SSE4_1", "LZCNT", "BMI", "AVX512VNNI", "AVX512VL", "AVXVNNI", "SSE_MATH", "SSE2_MATH", "ELF"]
    assert target.cpu() == target.instruction_sets(macros)


def test_this_cpu_has_what_native_means():
    cxx = compiler.find()
    described = build.describe("abc", "native", cxx)
    assert {"sse2"} <= set(described["instructions"]) <= set(described["cpu"])
    assert target.fault(described) is None


@pytest.mark.parametrize("flags, changes, reason", [
    ("sse2 avx2 f16c", {}, None),
    ("sse2 avx2", {}, None),  # code that does not use it runs
    ("sse2", {}, "was built for a CPU with avx2, which this one does not have"),
    ("sse2 avx2 f16c avx512f", {}, "was built on a CPU without avx512f, which this one has and would not use"),
    ("sse2 avx2 f16c avx512f", {"march": "x86-64-v3", "cpu": []}, None),  # asked for
])
def test_other_cpus(cpuinfo, flags, changes, reason):
    cpuinfo(flags)
    assert target.fault({**BUILT, **changes}) == reason


def test_a_machine_that_does_not_tell_its_cpu(monkeypatch):
    monkeypatch.setattr(target, "CPUINFO", "/no/cpuinfo")
    assert target.cpu() == [] and target.fault(BUILT) is None


@pytest.mark.parametrize("capability, code", [
    ((7, 5), None), ((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 9), "sm_86"), ((9, 0), "sm_90a"),
    ((10, 0), "compute_90"), ((12, 1), "compute_90")])
def test_code_for_a_card(cpuinfo, capability, code):
    cpuinfo("sse2 avx2")
    assert target.code_for(BUILT, capability) == code
    reason = target.fault(BUILT, capability=capability)
    assert reason is None if code else "compute capability 7.5" in reason


def test_code_for_the_cpu_alone_and_another_paddle(cpuinfo):
    cpuinfo("sse2 avx2")
    assert "for the CPU alone" in target.fault({**BUILT, "architectures": [], "ptx": None}, capability=(9, 0))
    assert target.fault(BUILT, "paddlepaddle 2.6.2") is None
    assert target.fault(BUILT, "paddlepaddle-gpu 2.6.2") == ("was built for paddlepaddle 2.6.2, this is "
                                                            "paddlepaddle-gpu 2.6.2")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", target.MARK, target.MARK + b'{"a": ', target.MARK + b'{"a": \0'])
def test_files_that_say_nothing(tmp_path, content):
    (tmp_path / "lib.so").write_bytes(content)
    assert target.read(tmp_path / "lib.so") == {}
    assert target.fault({}) == "does not say what it was built for"


def test_what_is_read_is_what_was_written(tmp_path):
    assert target.read(library(tmp_path / "lib.so", BUILT)) == BUILT


@pytest.mark.parametrize("module", ["infer", "ops.selfcheck"])
def test_library_of_another_cpu_is_refused_in_one_line(tmp_path, exported_tiny, module):
    """Before it is loaded: this one could not be."""
    path = library(tmp_path / "lib.so", {**BUILT, "instructions": ["avx1024"]})
    options = ["--exported", exported_tiny, "--device", "cpu"] if module == "infer" else []
    done = subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "QWEN_VL_OPS": str(path)})
    assert done.returncode == 1 and done.stderr == (f"error: {path} was built for a CPU with avx1024, which this one "
                                                    "does not have: run `make ops`\n")


@pytest.fixture
def serves(tmp_path, cpuinfo):
    """Whether a library built for `built` stays where `plan()` is what would be built."""
    cpuinfo("sse2 avx2 f16c")

    def stays(built, plan):
        wanted.renew(library(tmp_path / "out" / build.NAME, built), plan, tmp_path / "out")
        return json.loads((tmp_path / "out" / wanted.FILE).read_text()) == (built or None)
    return stays


@pytest.mark.parametrize("changed", [
    {"march": "x86-64-v3"}, {"cpu": ["avx2"]}, {"compiler": "clang++: 19"}, {"paddle": "paddlepaddle 3.0"},
    {"sources": "def"}, {"architectures": ["80"]}, {"cuda": "12.4"}])
def test_any_difference_builds_again(serves, monkeypatch, changed):
    monkeypatch.setenv("CUDA_ARCHS", "80 86 90a")
    assert serves(BUILT, lambda: (BUILT, None))
    assert not serves({**BUILT, **changed}, lambda: (BUILT, None))
    assert serves(BUILT, lambda: (BUILT, None))


def test_code_for_more_cards_than_are_seen_serves(serves, monkeypatch):
    monkeypatch.delenv("CUDA_ARCHS", raising=False)
    seen = {**BUILT, "architectures": ["90a"]}
    assert serves(BUILT, lambda: (seen, None))
    assert not serves(seen, lambda: (BUILT, None))


def test_where_nothing_can_be_built(serves):
    """As in an image without a compiler: what can run stays, what cannot is tried and named by the build."""
    def fails():
        raise UserError("no C++ compiler")
    assert serves(BUILT, fails)
    assert not serves({**BUILT, "instructions": ["avx512f"]}, fails)
    assert not serves({}, fails)


def test_make_builds_what_the_cpu_needs(tmp_path):
    """A build folder that came from elsewhere, with its times."""
    own = [f"BUILD={tmp_path}", f"PADDLE_PYTHON={sys.executable}", f"TORCH_PYTHON={sys.executable}", "DEVICE=cpu"]
    path = tmp_path / "ops" / "cpu" / build.NAME
    stamp = tmp_path / "stamps" / "of" / str(path).lstrip("/")

    def builds(**variables):
        env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MARCH")}
        done = subprocess.run(["make", "-n", *own, path], cwd=ROOT, capture_output=True, text=True,
                              env={**env, **variables})
        assert done.returncode == 0, done.stderr
        return "-m ops.build" in done.stdout

    def put(description):
        """A library as make would leave it, with what it says of itself."""
        library(path, description)
        builds()
        made_at = stamp.stat().st_mtime_ns
        os.utime(path, ns=(made_at, made_at))
    assert builds()
    described, *_ = build.plan("cpu")
    put(described)
    assert not builds()
    assert builds(CXX="g++ -m64")
    put(described)
    assert builds(MARCH="x86-64-v3")
    put(described)
    library(path, {**described, "instructions": ["avx1024"]})
    assert builds()
