"""The vocabulary of a synthetic checkpoint: the published one where a package here has it, else one of bytes."""

import base64
import hashlib
import importlib.util
import shutil
from pathlib import Path

from core.errors import UserError
from core.ranks import SPECIALS_BEFORE_IMAGE, VOCABULARY

BYTES = 256
PACKAGE, INSIDE = "dashscope", f"resources/{VOCABULARY}"   # what has the published file, and where
PUBLISHED_RANKS = 151643
PUBLISHED_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"


def published_vocabulary():
    """Path of the published qwen.tiktoken in an installed package, None where there is none or another file."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / INSIDE
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED_SHA256:
            return path
    return None


def write_vocabulary(path, image_start_id):
    """Write qwen.tiktoken; returns "published" or "bytes".

    The published one is taken for the geometry that it belongs to, so that prompts have the tokens of the published
    model. Else: one `base64 rank` line per rank, ranks 0..255 the single bytes. Special ids follow the last rank, so a
    config whose `<img>` is further up gets readable filler entries, which encoding text does not reach: no pair of
    bytes is an entry, so nothing ever merges.
    """
    ranks = image_start_id - SPECIALS_BEFORE_IMAGE
    if ranks < BYTES:
        raise UserError(f"image_start_id {image_start_id} leaves no room for 256 bytes and the special ids")
    if ranks == PUBLISHED_RANKS and (published := published_vocabulary()):
        shutil.copyfile(published, path)
        return "published"
    with open(path, "wb") as file:
        for rank in range(ranks):
            entry = bytes([rank]) if rank < BYTES else f" [{rank}]".encode()
            file.write(base64.b64encode(entry) + b" %d\n" % rank)
    return "bytes"
