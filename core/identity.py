"""What files hold, as hashes that are made again only when the file system says that a file was written."""

import os
from pathlib import Path

import xxhash

from core.files import file_hash

CHECKPOINT_FILES = ("*.json", "*.tiktoken", "*.safetensors", "*.bin", "*.pdparams")


def checkpoint_files(folder):
    """{name: path} of the files of a checkpoint folder, sorted by name; links are followed."""
    files = {path.name: path for pattern in CHECKPOINT_FILES for path in Path(folder).glob(pattern) if path.is_file()}
    return dict(sorted(files.items()))


def facts(path):
    """[size, time of the content, time of the last change, inode] of a file, times in ns.

    As long as all four are the same, so is the content: the kernel sets the time of the last change (ctime) at every
    write, rename over and change of the other times, and no program can set it, as cp -p, rsync -a, tar and mv set the
    time of the content. Where a file system keeps no such time (some network and FUSE mounts), a file that was changed
    in place with its old size and time looks the same: remove the *.seen files that scripts/stamp.py writes.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def hashes(files, seen):
    """({name: hash}, what to hand in as `seen` next time) of {name: path}.

    seen: {absolute path: {"facts", "hash"}}; a file whose facts stand there is not read.
    """
    entries = {}
    for path in files.values():
        absolute, current = os.path.abspath(path), facts(path)
        entry = seen.get(absolute, {})
        entries[absolute] = entry if entry.get("facts") == current else {"facts": current, "hash": file_hash(path)}
    return {name: entries[os.path.abspath(path)]["hash"] for name, path in files.items()}, entries


def identity(hash_of_file):
    """One hash over {name: hash}."""
    return xxhash.xxh3_128("".join(f"{hash_}  {name}\n" for name, hash_ in sorted(hash_of_file.items())).encode(
        errors="surrogateescape")).hexdigest()
