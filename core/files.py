"""Files and folders that are whole or absent: made beside their place, then renamed; and their hashes."""

import contextlib
import functools
import glob
import os
import shutil
import uuid
from pathlib import Path

import xxhash

HASH_CHUNK = 64 << 20
REPLACED = "-replaced"  # ends the name that a folder has while another takes its place


@functools.cache
def _processes():
    """What the process ids here belong to, as 16 hex digits: host, boot of its kernel, PID namespace.

    A process of another container or host says nothing by its id. Where these cannot be read, nobody else has the same
    digits.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return xxhash.xxh3_64_hexdigest(f"{os.uname().nodename} {boot} {os.readlink('/proc/self/ns/pid')}".encode())
    except OSError:
        return uuid.uuid4().hex[:16]


def _beside(path):
    return path.with_name(f".{path.name}.partial-{_processes()}-{os.getpid()}")


def _is_left(name):
    """Whether a partial folder's name says that a process of ours made it which has ended."""
    *_, made_among, pid = name.removesuffix(REPLACED).rsplit("-", 2)
    if made_among != _processes() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)  # asks only; unlike /proc it answers for processes that may not be seen
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


@contextlib.contextmanager
def atomic_file(path, mode="wb"):
    """Yield an open file that replaces `path` when the block ends well and leaves nothing when it does not.

    Text is UTF-8; what that cannot hold, such as a byte of a file name that is none, is escaped.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with open(partial, mode, **text) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_dir(path):
    """Yield a new empty folder that takes the place of `path` when the block ends well.

    Leftovers of runs that were killed (same parent, same name, process gone) are removed first; what processes of
    another container or host make is left alone, as nobody here can tell whether they still do.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        if _is_left(stale.name):
            shutil.rmtree(stale, ignore_errors=True)
    partial = _beside(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    replaced = partial.with_name(partial.name + REPLACED)
    try:
        yield partial
        if path.exists():
            os.rename(path, replaced)
        os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not path.exists():
            os.rename(replaced, path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def file_hash(path):
    """xxh3-128 of a file as hex, computed over the digests of its 64 MiB chunks, which are hashed in parallel.

    It finds damaged and mixed-up files; it is no protection against somebody who forges them.
    """
    size = os.path.getsize(path)

    def digest(offset):
        with open(path, "rb", buffering=0) as f:
            f.seek(offset)
            h, left = xxhash.xxh3_128(), HASH_CHUNK
            while left and (block := f.read(min(left, 1 << 20))):
                h.update(block)
                left -= len(block)
            return h.digest()

    if size <= HASH_CHUNK:
        return xxhash.xxh3_128(digest(0) if size else b"").hexdigest()
    from concurrent.futures import ThreadPoolExecutor  # only now: it takes longer than hashing a few sources

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return xxhash.xxh3_128(b"".join(pool.map(digest, range(0, size, HASH_CHUNK)))).hexdigest()
