"""`python -m scripts.stamp [--of TARGET] [--checkpoint DIR] [--wheels] [--setting TEXT …] STAMP [FILE or folder …]`.

STAMP lists what a target is made from: the settings, and of every file its hash and name. It gets a new time when that
is another than it was. The target takes over the time of its stamp when it is made; with any other time it is not what
was made from this content. So neither the times of the files nor a wrong clock decide. STAMP.seen saves hashing the
large files of a checkpoint again, see core.identity.
"""

import argparse
import json
import os
import time
from pathlib import Path

from core.errors import run_cli
from core.files import atomic_file
from core.identity import checkpoint_files, hashes

ABSENT = "absent"  # stands for the hash of a file that is not there, as `make -n` makes none
EVEN = 2           # stamps have a time of even seconds, which every file system can hold


def stamp(path, target=None, checkpoint=None, settings=(), files=()):
    """Bring the stamp `path` up to date; returns whether `target` was made from what it lists.

    checkpoint: a folder, all files of which count; settings: texts that count as well.
    """
    path = Path(path)
    seen_path = path.with_name(path.name + ".seen")
    file_of_name = {str(file): file for name in files for file in _inside(Path(name))}
    if checkpoint is not None:
        file_of_name.update(checkpoint_files(checkpoint))
    existing = {name: file for name, file in file_of_name.items() if file.is_file()}
    seen = _read_seen(seen_path)
    hash_of_name, now_seen = hashes(existing, seen)
    lines = [*settings, *(f"{hash_of_name.get(name, ABSENT)}  {name}" for name in file_of_name)]
    content = "".join(f"{line}\n" for line in lines)
    if checkpoint is not None and now_seen != seen:
        with atomic_file(seen_path, "w") as f:
            json.dump(now_seen, f, indent=1)
    raw = content.encode(errors="surrogateescape")
    current = path.is_file() and path.read_bytes() == raw
    made_at = None
    if target is not None:
        made_at = os.stat(target).st_mtime_ns if os.path.exists(target) else 0
        current = current and made_at == path.stat().st_mtime_ns
    now = int(time.time()) // EVEN * EVEN
    if not current:
        with atomic_file(path) as f:
            f.write(raw)
        _set_time(path, max(now, (made_at // 10**9 // EVEN + 1) * EVEN) if made_at else now)
    elif path.stat().st_mtime > now + EVEN:  # of a clock that was wrong
        for file in filter(None, (path, target)):
            _set_time(file, now)
    return current


def _set_time(path, seconds):
    os.utime(path, (seconds, seconds))


def _inside(path):
    """The sources in a folder, sorted; of anything else itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*")
                  if file.is_file() and not file.name.startswith(".") and "__pycache__" not in file.parts)


def _read_seen(path):
    """What `hashes` saw last time, {} if that is not known."""
    try:
        return {name: known for name, known in json.loads(path.read_bytes()).items() if isinstance(known, dict)}
    except (OSError, ValueError, AttributeError):
        return {}


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.stamp", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamp", metavar="STAMP", type=Path)
    parser.add_argument("--of", metavar="TARGET", help="what is made from the files")
    parser.add_argument("--checkpoint", metavar="DIR", help="all files of this checkpoint")
    parser.add_argument("--wheels", action="store_true", help="this interpreter and its wheel of Paddle")
    parser.add_argument("--setting", metavar="TEXT", action="append", default=[])
    parser.add_argument("files", metavar="FILE", nargs="*", help="or a folder of sources")
    options = parser.parse_args()
    if options.wheels:
        from scripts.wheels import wheels  # only now: looking for packages takes longer than everything else here

        options.setting += wheels()
    stamp(options.stamp, options.of, options.checkpoint, options.setting, options.files)


if __name__ == "__main__":
    run_cli(main)
