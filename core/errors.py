"""Errors a user can act on: one line that names the fix, and a non-zero exit."""

import argparse
import errno
import os
import re
import sys

from core import terminal
from core.text import one_line

REMEDIES = {   # errno of what is the machine's or the user's, not a defect here -> what to do, where one thing helps
    **dict.fromkeys((errno.EACCES, errno.EROFS, errno.ENOENT, errno.EFBIG, errno.EISDIR, errno.EIO), ""),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP), ": give another path"),
    errno.ENOSPC: ": free some space, or put what is written on another disk (OUT= or BUILD=)",
    errno.EDQUOT: ": free some of your quota, or put what is written on another disk (OUT= or BUILD=)"}
NO = 3   # exit status of a program that was asked a question: no (0: yes, 1: it could not tell)
PROGRAMS = ("bench", "export", "infer", "ops", "scripts")   # packages whose modules are run with python -m


def _is_program():
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] in PROGRAMS


def _quiet_interrupt(kind, value, traceback):
    """sys.excepthook of a program that is still importing: Ctrl-C is no defect there either, see run_cli."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, value, traceback)


if _is_program():   # somebody else's, which imports this, keeps its own
    sys.excepthook = _quiet_interrupt


class UserError(Exception):
    """A problem in what the user gave (a file, an option, a machine); str() is the one line to print."""

    def __str__(self):
        return one_line(super().__str__())


class NotHere(UserError):
    """What was asked for cannot run on this machine, whatever the user does; str() says why."""


def as_typed(message):
    """A message in which options are called as they were typed: under make, which names its variables in
    QWEN_VL_VARIABLES, by the variable that the Makefile hands on as that option."""
    names = os.environ.get("QWEN_VL_VARIABLES", "").split()

    def variable(option):
        name = option[1].upper().replace("-", "_")
        return f"{name}=" if name in names else option[0]

    return re.sub(r"--(?:max-)?([a-z][a-z-]*)(?: (?=\d))?", variable, message)


def inherited(message):
    """Which values that `message` speaks of nobody typed, to follow it; make names those in QWEN_VL_INHERITED."""
    names = [f"{name}=" for name in os.environ.get("QWEN_VL_INHERITED", "").split() if f"{name}=" in message]
    return f" ({', '.join(names)} came from the environment)" if names else ""


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, with one line for what it cannot read, and not its whole usage; the exit status is 2 as ever."""

    def error(self, message):
        message = as_typed(message.removeprefix("argument "))
        self.exit(2, f"error: {one_line(message)}{inherited(message)}\n")


def run_cli(main):
    """Run `main()` on standard streams that core.terminal prepared, and exit the process.

    A UserError, a full disk, exhausted memory or Ctrl-C ends in one line on stderr and exit status 1 (130 for
    Ctrl-C); a ReaderLeft ends quietly; anything else is a defect of this program and keeps its traceback.
    """
    terminal.prepare()
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except terminal.ReaderLeft:
        sys.exit(0)
    except UserError as e:
        message = str(e)
    except OSError as e:
        if e.errno not in REMEDIES:
            raise
        where = f" ({str(e.filename)[:200]})" if e.filename else ""
        message = f"{e.strerror}{where}{REMEDIES[e.errno]}"
    except MemoryError:
        message = "out of memory: use a smaller PRESET=, batch or DTYPE="
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    message = as_typed(message)
    print("error: " + one_line(message) + inherited(message), file=sys.stderr)
    sys.exit(1)
