"""Every file that the stock packages are compiled from decides whether they are built again: by make, and by hash."""

import re

from makes import run_make

from ops.build import ROOT
from ops.stock import build

INCLUDE = re.compile(r'^#include "(ops/[^"]+)"', re.MULTILINE)


def compiled():
    """The C++ and CUDA files below ops/stock and all that they include, as paths from this repository's root."""
    waiting = [path for path in (ROOT / "ops" / "stock").rglob("*") if path.suffix in (".cc", ".cu", ".h")]
    files = set()
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += [ROOT / name for name in INCLUDE.findall(path.read_text(encoding="utf-8"))]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_hash(monkeypatch):
    hashed = []
    monkeypatch.setattr(build.operators, "digest", lambda files: hashed.extend(files) or "")
    build.source_version()
    assert compiled() <= {path.relative_to(ROOT).as_posix() for path in hashed}


def test_makefile():
    done = run_make("-s", "--eval", "sources: ; @echo $(STOCK_SOURCES)", "sources")
    sources = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert {name for name in compiled() if not name.startswith("ops/stock/")} <= set(sources)
