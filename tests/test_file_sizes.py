"""No source file is too long to be read in one go."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "ops", "export", "infer", "bench", "scripts", "tests")
ENDINGS = (".py", ".cu", ".cuh", ".h", ".cc", ".sh")
MOST_LINES = 400


def test_no_source_has_too_many_lines():
    sources = [ROOT / "Makefile", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")
                                    if path.suffix in ENDINGS)]
    lines = {path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in sources}
    assert len(lines) > 300
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
