"""The C++ compiler. CXX is what autoconf and CMake take: a program, launchers before it, flags behind it.

`python -m ops.compiler` says whether there is one that can be used.
"""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError, run_cli
from ops import target

OLDEST_GCC = 9


@dataclass(frozen=True)
class Compiler:
    """A compiler's command: launchers such as ccache, the program, the flags that it always gets; and its version,
    the first line that it says of itself."""

    launchers: tuple
    program: str
    flags: tuple
    version: str = ""

    @property
    def words(self):
        return (*self.launchers, self.program, *self.flags)

    @property
    def as_host(self):
        """nvcc's options that have it compile the host's code with this; launchers are left out."""
        return ["-ccbin", self.program, *(f"-Xcompiler={flag.replace(',', chr(92) + ',')}" for flag in self.flags)]

    def __str__(self):
        return shlex.join(self.words)

    def instruction_sets(self, march):
        """What code for `march` may use, see ops.target.instruction_sets; raises UserError if it is unknown."""
        done = subprocess.run([*self.words, f"-march={march}", "-dM", "-E", "-x", "c++", os.devnull],
                              capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{self} cannot compile for MARCH={march}: leave it out, or give what its -march= knows")
        return target.instruction_sets(re.findall(r"^#define __(\w+?)__ 1$", done.stdout, re.MULTILINE))


def parse(text):
    """The Compiler that the text of CXX means, g++ if it is blank; raises UserError if it means none."""
    if not text.strip():
        return Compiler((), "g++", ())
    try:
        words = [text] if shutil.which(text) else shlex.split(text)  # a path with a space need not be quoted
    except ValueError as e:
        raise UserError(f"CXX={text} cannot be read ({e}): set CXX=g++") from None
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    if count == 0:
        raise UserError(f"CXX={text} names no program: set CXX=g++")
    return Compiler(tuple(words[:count - 1]), words[count - 1], tuple(words[count:]))


def find(text=None):
    """The Compiler that is used: `text`, by default CXX. Raises UserError if it is missing, too old or broken."""
    parsed = parse(os.environ.get("CXX", "") if text is None else text)
    if shutil.which(parsed.program) is None:
        raise UserError(f"no C++ compiler ({parsed.program}): apt install g++")
    for launcher in parsed.launchers:
        if shutil.which(launcher) is None:
            raise UserError(f"CXX={parsed}: there is no {launcher}: install it, or set CXX={parsed.program}")
    version = _output(*parsed.words, "-dumpversion").strip().split(".")[0]
    if re.match(r"(.*-)?g\+\+", Path(parsed.program).name) and version.isdigit() and int(version) < OLDEST_GCC:
        raise UserError(f"{parsed} {version} is too old for Paddle's headers: apt install g++-12 and set CXX=g++-12")
    probe = subprocess.run([*parsed.words, "-std=c++17", "-fsyntax-only", "-x", "c++", "-"],
                           input="#include <filesystem>\n", capture_output=True, text=True)
    if probe.returncode:
        remedy = "apt install g++" if parsed.words == (parsed.program,) else "set CXX=g++"
        raise UserError(f"{parsed} does not compile C++17 with its standard headers: {remedy}")
    return Compiler(parsed.launchers, parsed.program, parsed.flags,
                    _output(*parsed.words, "--version").partition("\n")[0].strip())


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def main():
    compiler = find()
    print(f"{compiler}: {compiler.version}")


if __name__ == "__main__":
    run_cli(main)
