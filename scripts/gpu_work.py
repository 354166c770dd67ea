"""`python -m scripts.gpu_work WORK --preset NAME --dtype TYPE [--record]`: does WORK hold what would be made there?

The status is 0 for yes, core.errors.NO for no, and the reason is printed. WORK/checkpoint and WORK/exported are what a
run would make if WORK/made.json, which --record writes after they were made, says that it was from the same preset and
type, sources, operator library and Paddle, and if their files are still the same. Nothing is judged by names or times.
"""

import argparse
import json
import os
from importlib import metadata
from pathlib import Path

from core.errors import NO, UserError, run_cli
from core.files import atomic_file, file_hash
from ops import library

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("core", "export", "ops")   # folders whose Python files and presets decide what is made
RECORD = "made.json"
MAX_RECORD_BYTES = 1 << 20
PADDLE = ("paddlepaddle", "paddlepaddle-gpu")


def wanted(preset, dtype):
    """What checkpoint and graphs would be made from now."""
    files = sorted(file for folder in SOURCES for kind in ("py", "json") for file in (ROOT / folder).rglob(f"*.{kind}"))
    installed = {package.metadata["Name"]: package.version for package in metadata.distributions()
                 if package.metadata["Name"] in PADDLE}
    return {"preset": preset, "dtype": dtype, "operators": file_hash(library.path()), "paddle": installed,
            "sources": {str(file.relative_to(ROOT)): file_hash(file) for file in files}}


def contents(work):
    """{name below `work`: hash} of the files of the checkpoint and the graphs."""
    files = [*(work / "checkpoint").glob("*"), *(work / "exported").glob("*/*")]
    return {str(file.relative_to(work)): file_hash(file) for file in sorted(files) if file.is_file()}


def missing(work, preset, dtype):
    """Why `work` does not hold what would be made, "" if it does; UserError for what somebody else put there."""
    checkpoint = work / "checkpoint"
    if os.path.lexists(checkpoint) and not _is_synthetic(checkpoint / "config.json"):
        raise UserError(f"{checkpoint} was not made here and would be replaced: choose another WORK=")
    record = work / RECORD
    try:
        if record.stat().st_size > MAX_RECORD_BYTES:
            raise ValueError
        recorded = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return f"there is no record {record} of what was made"
    now = wanted(preset, dtype)
    for name, value in now.items():
        if not isinstance(recorded, dict) or recorded.get(name) != value:
            return f"it was made with another value of {name}"
    return "" if recorded.get("files") == contents(work) else "its files have changed since they were made"


def _is_synthetic(config):
    try:
        return "synthetic" in json.loads(config.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_record(work, preset, dtype):
    """Say in `work` what its checkpoint and graphs were made from, and what they are."""
    with atomic_file(work / RECORD, "w") as f:
        json.dump({**wanted(preset, dtype), "files": contents(work)}, f, indent=1)


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu_work", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", metavar="WORK", type=Path)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--record", action="store_true", help="checkpoint and graphs have just been made")
    options = parser.parse_args()
    if options.record:
        return write_record(options.work, options.preset, options.dtype)
    why = missing(options.work, options.preset, options.dtype)
    print(f"{options.work}: {why}" if why else f"{options.work}: held")
    return NO if why else 0


if __name__ == "__main__":
    run_cli(main)
