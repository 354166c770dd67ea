"""Files with a JSON value a line: added to in whole lines only, and read with a remedy for a damaged line."""

import contextlib
import fcntl
import json
import os
import re
from pathlib import Path

from core.errors import UserError
from core.text import shell_line

CONFLICT = re.compile(rb"<{7} |={7}$|>{7} |\|{7} ")


def append(path, values):
    """Add a line per value, all of them or none; after a last line without its end they begin a new one."""
    data = "".join(json.dumps(value) + "\n" for value in values).encode()
    with open(path, "ab+", buffering=0) as f:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(f, fcntl.LOCK_EX)
        end = f.seek(0, os.SEEK_END)
        f.seek(max(0, end - 1))
        if f.read(1) not in (b"", b"\n"):
            data = b"\n" + data
        try:
            while data:
                data = data[f.write(data):]
            os.fsync(f.fileno())
        except BaseException:
            f.truncate(end)
            raise


def read(path, remedy, conflict_remedy=None):
    """Yield (number, value) of every line that is not blank; UserError for a line that holds no JSON.

    remedy ends the error's line, {number} and {path} in it are filled in; conflict_remedy is its like for the lines
    that git leaves in a file that two sides have changed (default: `remedy`).
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from None
    for number, line in enumerate(lines, 1):
        if CONFLICT.match(line.rstrip()):
            raise fault(path, number, "is a mark of a conflict in git", conflict_remedy or remedy)
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as e:
                raise fault(path, number, f"is cut off or damaged ({e})", remedy) from None


def fault(path, number, what, remedy):
    """The UserError that says what a line of a file is, and the remedy."""
    return UserError(f"{path}, line {number} {what}: {remedy.format(number=number, path=shell_line([str(path)]))}")
