"""A byte-level vocabulary in the published file format, so that text works without the published one."""

import base64

from core.errors import UserError
from core.ranks import SPECIALS_BEFORE_IMAGE

BYTES = 256


def write_vocabulary(path, image_start_id):
    """Write qwen.tiktoken: one `base64 rank` line per rank, ranks 0..255 the single bytes.

    Special ids follow the last rank, so a config whose `<img>` is further up gets readable filler entries, which
    encoding text does not reach: no pair of bytes is an entry, so nothing ever merges.
    """
    ranks = image_start_id - SPECIALS_BEFORE_IMAGE
    if ranks < BYTES:
        raise UserError(f"image_start_id {image_start_id} leaves no room for 256 bytes and the special ids")
    with open(path, "wb") as file:
        for rank in range(ranks):
            entry = bytes([rank]) if rank < BYTES else f" [{rank}]".encode()
            file.write(base64.b64encode(entry) + b" %d\n" % rank)
