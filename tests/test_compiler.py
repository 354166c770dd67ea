"""CXX as autoconf and CMake take it: a program, launchers before it, flags behind it; and what is none of that."""

import shutil

import pytest

from core.errors import UserError
from ops import build, compiler


@pytest.mark.parametrize("text, launchers, program, flags", [
    ("", (), "g++", ()), ("  ", (), "g++", ()), ("clang++", (), "clang++", ()),
    ("g++ -m64", (), "g++", ("-m64",)), ("ccache g++", ("ccache",), "g++", ()),
    ("ccache distcc g++-12 -m64 -pipe", ("ccache", "distcc"), "g++-12", ("-m64", "-pipe")),
    ("g++ -isystem '/opt/a b' -DX=\"y z\"", (), "g++", ("-isystem", "/opt/a b", "-DX=y z")),
    ("'/opt/my tools/g++' -m64", (), "/opt/my tools/g++", ("-m64",))])
def test_words(text, launchers, program, flags):
    made = compiler.parse(text)
    assert (made.launchers, made.program, made.flags) == (launchers, program, flags)


def test_path_with_a_space_needs_no_quotes(tmp_path):
    (tmp_path / "my tools").mkdir()
    path = tmp_path / "my tools" / "g++"
    path.symlink_to(shutil.which("g++"))
    assert compiler.parse(str(path)).program == str(path)
    assert compiler.find(str(path)).version == compiler.find("").version


def test_nvcc_gets_the_program_and_the_flags():
    assert compiler.parse("ccache g++ -m64 -Wl,-z,now").as_host == ["-ccbin", "g++", "-Xcompiler=-m64",
                                                                   r"-Xcompiler=-Wl\,-z\,now"]


@pytest.mark.parametrize("text, message", [
    ("'g++ -m64", r"CXX='g\+\+ -m64 cannot be read \(No closing quotation\): set CXX=g\+\+"),
    ("-m64", "CXX=-m64 names no program"),
    ("no-such g++", "there is no no-such: install it, or set CXX=g"),
    ("env no-such", r"no C\+\+ compiler \(no-such\): apt install g\+\+"),
    ("g++ --no-such-flag", r"does not compile C\+\+17 with its standard headers: set CXX=g\+\+"),
])
def test_what_is_no_compiler_is_named(text, message):
    with pytest.raises(UserError, match=message):
        compiler.find(text)


def test_unknown_march():
    with pytest.raises(UserError, match="cannot compile for MARCH=no-such: leave it out"):
        compiler.find("").instruction_sets("no-such")


def test_march_decides_the_instruction_sets():
    cxx = compiler.find("env g++ -m64")
    assert "avx512f" in cxx.instruction_sets("skylake-avx512") and "avx" not in cxx.instruction_sets("x86-64")


def test_commands_are_quoted():
    cxx = compiler.parse("g++ -DX='a b$c'")
    lines = build.rule_lines({"march": "native", "compiler": "", "instructions": [], "environment": {}}, cxx)
    assert lines[0] == "compiler = g++ '-DX=a b$$c'"
