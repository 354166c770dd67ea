"""`PYTHON scripts/wheels.py`: which Python and which wheel of Paddle this interpreter has, a line each.

Standard library only, and nothing of this project: it runs before anything is installed, and in any environment.
"""

import contextlib
import sys
from importlib.metadata import PackageNotFoundError, version


def wheels():
    """Lines such as "Python 3.11" and "paddlepaddle 2.6.2"."""
    lines = ["Python %d.%d" % sys.version_info[:2]]
    for name in ("paddlepaddle", "paddlepaddle-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{name} {version(name)}")
    return lines


if __name__ == "__main__":
    print("\n".join(wheels()))
