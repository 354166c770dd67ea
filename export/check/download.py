"""What a download can leave behind: unfinished files, and hashes to compare with."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MAX_LIST_BYTES = 1 << 20
SUMS = ("SHA256SUMS", "SHA256SUMS.txt", "sha256sums.txt", "sha256sum.txt")
METADATA = Path(".cache", "huggingface", "download")  # huggingface_hub, below the folder that it downloads into
UNFINISHED = ("*.incomplete", "*.part", "*.aria2", "*.crdownload")
SMALL = 64 << 20  # bytes; larger files are hashed on request only
BLOCK = 1 << 20


def unfinished(folder):
    """Names of files that a download program has not finished, sorted."""
    places = (folder, folder / METADATA)
    return sorted({file.name for place in places for pattern in UNFINISHED for file in place.glob(pattern)})


def published_hashes(folder):
    """{file name: (algorithm, hex, where it is given)} of files in `folder`; algorithm "sha256" or "git" (a blob's).

    From SHA256SUMS, from huggingface_hub's metadata, and from the cache of huggingface_hub, whose files are links to
    blobs that are named by their hash. What is no such list is left out.
    """
    given = {}
    for path in folder.iterdir():
        if path.is_symlink():
            blob = path.readlink()
            if blob.parent.name == "blobs":
                _take(given, path.name, blob.name, "its blob's name")
    for path in (folder / METADATA).glob("*.metadata"):
        lines = _lines(path)
        if len(lines) > 1:
            _take(given, path.name.removesuffix(".metadata"), lines[1].strip(), str(METADATA))
    for name in SUMS:
        for line in _lines(folder / name):
            digest, _, file = line.strip().partition(" ")
            _take(given, file.strip().removeprefix("*").removeprefix("./"), digest, name)
    return given


def _lines(path):
    if not path.is_file() or path.stat().st_size > MAX_LIST_BYTES:
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _take(given, name, digest, source):
    kind = {64: "sha256", 40: "git"}.get(len(digest))
    if kind and re.fullmatch("[0-9a-fA-F]+", digest):
        given[name] = (kind, digest.lower(), source)


def differing(folder, given, advance=lambda count: None):
    """Names of the files of `given` (see published_hashes) whose content has another hash, sorted.

    Reads every file whole, several at once; `advance` hears of the bytes read.
    """
    def differs(name):
        kind, expected, _ = given[name]
        path = folder / name
        digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
        if kind == "git":
            digest.update(b"blob %d\0" % path.stat().st_size)
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                advance(len(block))
        return digest.hexdigest() != expected

    with ThreadPoolExecutor(max_workers=4) as pool:
        names = sorted(given)
        return [name for name, wrong in zip(names, pool.map(differs, names)) if wrong]
