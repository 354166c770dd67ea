"""`python -m scripts.lint`: the style of this repository's Python, shell, C++ and CUDA files; status 1 where it is off.

By ruff (settings in pyproject.toml), shellcheck and clang-format (settings in .clang-format), as requirements.txt has
them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from core.errors import UserError, run_cli

ROOT = Path(__file__).resolve().parents[1]
SHELL_FOLDERS = ("scripts", "tests", ".ci")
SHEBANG = re.compile(rb"#!\S*/(env )?(ba)?sh\n")
CPP_ENDINGS = (".cu", ".cuh", ".cc", ".h")


def shell_files(root=ROOT):
    """Files that bash or sh runs, by their first line, sorted."""
    files = sorted(path for folder in SHELL_FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return [path for path in files if SHEBANG.match(path.read_bytes())]


def cpp_files(root=ROOT):
    """C++ and CUDA files, sorted."""
    return sorted(path for path in (root / "ops").rglob("*") if path.suffix in CPP_ENDINGS)


def tool(name):
    """Path of a program that came with this interpreter's packages, or else lies on the PATH; raises UserError."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if found := beside or shutil.which(name):
        return found
    raise UserError(f"no {name} in this environment: make setup (with an environment of your own: pip install "
                    "-r requirements.txt)")


def commands(root=ROOT):
    """A command for each kind of file."""
    made = [[sys.executable, "-m", "ruff", "check", "."], [tool("shellcheck"), *map(str, shell_files(root))]]
    if (root / ".clang-format").is_file():
        made.append([tool("clang-format"), "--dry-run", "-Werror", *map(str, cpp_files(root))])
    return made


def main():
    wrong = [command for command in commands() if subprocess.run(command, cwd=ROOT).returncode != 0]
    return 1 if wrong else 0


if __name__ == "__main__":
    run_cli(main)
