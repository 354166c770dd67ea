"""C++ of this repository in a small program of a test's own."""

import os
import shlex
import subprocess

from ops import toolchain
from ops.build import ROOT


def output(folder, program, *sources, **environment):
    """Lines that a program prints: C++ text, compiled in `folder` with source files; a failure fails the test."""
    (folder / "main.cc").write_text(program)
    subprocess.run([*shlex.split(toolchain.compiler()), "-std=c++17", "-Wall", "-fopenmp", f"-I{ROOT}",
                    folder / "main.cc", *sources, "-o", folder / "program"], check=True)
    done = subprocess.run([folder / "program"], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
