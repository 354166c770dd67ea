"""The vocabulary file qwen.tiktoken: read within limits and checked."""

import base64
import binascii
from pathlib import Path

from core.errors import UserError

VOCABULARY = "qwen.tiktoken"
MAX_FILE_BYTES = 32 << 20   # the published file has 2.5 MB
MAX_RANKS = 1 << 20
MAX_TOKEN_BYTES = 1024
SPECIALS_BEFORE_IMAGE = 214  # three of the chat format, 205 extras, ref, box and quad pairs: `<img>` is next
AGAIN = "download it again"


def read_ranks(path, image_start_id=None):
    """Read a rank file (a line per token: base64 of its bytes, a space, its rank) as {bytes: rank}.

    Raises UserError unless the ranks are 0, 1, 2, … in any order, each token is there once, every single byte is a
    token, and there are as many as `image_start_id` of config.json needs.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no vocabulary {path}: put {VOCABULARY} into the checkpoint folder")
    with open(path, "rb") as f:
        data = f.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: not a vocabulary")
    ranks = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        token, _, rank = line.partition(b" ")
        try:
            token = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            token = b""
        if not 0 < len(token) <= MAX_TOKEN_BYTES or not rank.isdigit() or len(rank) > 7 or int(rank) >= MAX_RANKS:
            raise UserError(f"{path}, line {number}: not a token in base64 and its rank; {AGAIN}")
        if token in ranks:
            raise UserError(f"{path}, line {number}: this token stands there twice; {AGAIN}")
        ranks[token] = int(rank)
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise UserError(f"{path}: the ranks are not 0 to {len(ranks) - 1}, each once: the file is damaged; {AGAIN}")
    if any(bytes([i]) not in ranks for i in range(256)):
        raise UserError(f"{path}: not every single byte is a token: the file is damaged; {AGAIN}")
    if image_start_id is not None and len(ranks) + SPECIALS_BEFORE_IMAGE != image_start_id:
        raise UserError(f"{path} has {len(ranks)} ranks, config.json's image_start_id {image_start_id} needs "
                        f"{image_start_id - SPECIALS_BEFORE_IMAGE}: it is cut off, or another model's; {AGAIN}")
    return ranks
