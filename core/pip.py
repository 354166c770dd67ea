"""pip, held to the environment of the interpreter that runs it: `python -m core.pip install …`.

PIP_USER, PIP_TARGET and their like, or the same in a pip.conf, would install elsewhere, or nothing. Where packages come
from (indexes, links, constraints, proxies) stays as the user has set it.
"""

import os
import subprocess
import sys

OFF = {"PIP_USER": "0", "PIP_DRY_RUN": "0", "PIP_NO_DEPS": "0"}  # of variables and files the variables count
# No option undoes these in a variable; for those of a file one is given below.
REMOVED = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")


def run(command, *arguments, **options):
    """subprocess.run of `pip command arguments` in this interpreter's environment, with these options."""
    env = {name: value for name, value in os.environ.items() if name not in REMOVED} | OFF
    place = []
    if command == "install" and sys.prefix != sys.base_prefix:  # else a distribution may have its own idea of a prefix
        place = ["--target", "", "--prefix", sys.prefix, "--root", "/"]
    return subprocess.run([sys.executable, "-m", "pip", command, "--disable-pip-version-check", *place, *arguments],
                          env=env, **options)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]).returncode)
