"""Standard streams that take any text, and whose other end may be closed or go away.

A reader of the output that leaves (`| head -1`, `| less` and q) is no error: what is printed from then on goes nowhere.
Commands that write files or judge something go on to their end and keep their status; what only prints ends with
status 0 (`require_reader`), not 141 as programs do that SIGPIPE kills, since make reports every other status as an
error. Standard streams that are closed from the start are /dev/null.
"""

import errno
import io
import os
import stat
import sys


class ReaderLeft(Exception):
    """Nobody reads standard output any more: no error, but the end of a program that does nothing else than print."""


class _Output(io.FileIO):
    """The raw side of standard output or error; after a failure all that is written goes nowhere."""

    reader_left = False

    def write(self, data):
        try:
            return super().write(data)
        except OSError as e:
            self.reader_left = self._tells_of_reader(e)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also what libraries and child processes write, and the flush at exit
            os.close(nowhere)
            if not self.reader_left:
                raise OSError(e.errno, e.strerror, "standard output or error") from None
            return memoryview(data).nbytes

    def _tells_of_reader(self, error):
        gone = isinstance(error, (BrokenPipeError, ConnectionResetError))
        closed_terminal = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
        return gone or closed_terminal


def prepare():
    """Make this process's standard streams ready, before anything is read or printed.

    Output: what its encoding lacks is escaped. Input: bytes that its encoding does not have are kept as Python keeps
    those of file names.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest free number is the one that is missing
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  it stays open
        elif stream is getattr(sys, f"__{name}__"):
            if name == "stdin":
                stream.reconfigure(errors="surrogateescape")
            else:
                setattr(sys, name, _guarded(stream))


def _guarded(stream):
    raw = _Output(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(raw if stream.write_through else io.BufferedWriter(raw), stream.encoding,
                            errors="backslashreplace", line_buffering=stream.line_buffering,
                            write_through=stream.write_through)


def require_reader():
    """Raise ReaderLeft if the reader of standard output is known to have gone."""
    buffer = getattr(sys.stdout, "buffer", None)
    if getattr(getattr(buffer, "raw", buffer), "reader_left", False):
        raise ReaderLeft
