"""What .ci/run runs with Paddle 3 is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_files_for_the_other_paddle_exist():
    listed = re.search(r"^calling_paddle=\(([^)]*)\)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)[1].split()
    files = [ROOT / "tests" / f"test_{name}.py" for name in listed]
    assert len(files) > 15 and [file.name for file in files if not file.is_file()] == []
