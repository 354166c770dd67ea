"""C++ of this repository in a small program of a test's own."""

import os
import subprocess

from ops import compiler
from ops.build import ROOT


def program(folder, text, *sources):
    """Compile C++ text with source files into a program in `folder`; returns its path."""
    (folder / "main.cc").write_text(text)
    subprocess.run([*compiler.find().words, "-std=c++17", "-Wall", "-fopenmp", f"-I{ROOT}",
                    folder / "main.cc", *sources, "-o", folder / "program"], check=True)
    return folder / "program"


def lines(path, **environment):
    """What a program prints; its failure fails the test."""
    done = subprocess.run([path], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
