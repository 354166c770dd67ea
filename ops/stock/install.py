"""Install the built packages into this interpreter's environment: `python -m ops.stock.install DIR/packages`.

Needs no network. Nothing is done when this version is installed already.
"""

import argparse
import importlib.metadata
import importlib.util
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from core import pip
from core.errors import UserError, run_cli

NAME = "paddlenlp_ops"


def installed():
    """Version of paddlenlp_ops in this environment itself, or None: one that only a .pth file brings does not count."""
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    return next((package.version for package in importlib.metadata.distributions(name=NAME, path=list(own))), None)


def install(packages):
    """Install the project in folder `packages`, which ops.stock.build made; returns its version, "" where it made none
    for this Paddle. Raises UserError."""
    if not (packages / "VERSION").is_file():
        raise UserError(f"{packages} holds no built packages: run `make ops`")
    version = (packages / "VERSION").read_text()
    if version in ("", installed()):
        return version
    for tool, remedy in (("pip", "-m ensurepip"), ("setuptools", "-m pip install setuptools")):
        if importlib.util.find_spec(tool) is None:
            raise UserError(f"{sys.executable} has no {tool}: {sys.executable} {remedy}")
    with tempfile.TemporaryDirectory() as scratch:  # setuptools leaves its own folders beside what it packs
        project = shutil.copytree(packages, Path(scratch) / NAME)
        done = pip.run("install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall",
                       project, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or done.stderr.splitlines() or [""]
        raise UserError(f"pip could not install {NAME} into {sys.prefix} ({lines[-1].strip()}): use an environment "
                        f"that you may write to, or set PYTHONPATH={packages}")
    return version


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    args = parser.parse_args()
    if version := install(args.packages.resolve()):
        print(f"paddlenlp_ops and fused_ln {version} are installed in {sys.prefix}")


if __name__ == "__main__":
    run_cli(main)
