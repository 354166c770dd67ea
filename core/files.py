"""Files and folders that are whole or absent: made beside their place, then renamed; and their hashes."""

import contextlib
import os
import shutil
from pathlib import Path

import xxhash

HASH_CHUNK = 64 << 20
REPLACED = "-replaced"  # ends the name that a folder has while another takes its place


def _beside(path):
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


@contextlib.contextmanager
def atomic_file(path, mode="wb"):
    """Yield an open file that replaces `path` when the block ends well and leaves nothing when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        with open(partial, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as f:
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

    Leftovers of runs that were killed (same parent, same name, process gone) are removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.partial-*"):
        pid = stale.name.removesuffix(REPLACED).rpartition("-")[2]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
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
