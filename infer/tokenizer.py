"""Text to token ids and back: the published byte-pair ranks, every special token, image spans."""

import re
import unicodedata

import tiktoken

from core.config import QUERIES
from core.errors import UserError
from core.ranks import read_ranks
from core.text import reread

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
VISION_TOKENS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)),
                  *VISION_TOKENS)
TAG = re.compile(r"\\?<[^<>]{1,16}>")  # what may be a special token, with the backslash that makes it text
MAX_TEXT = 1 << 20          # characters, far beyond any context of this model; bounds the time a prompt can take


class Tokenizer:
    """The published tokenizer over any rank file; special ids follow the ranks in the published order.

    Attributes: `special` {text: id}, `vocab_size` (ranks and special tokens), `end_of_text`, `im_start`, `im_end`,
    `image_start`, `image_end`, `image_pad` (ids).
    """

    def __init__(self, path, image_start_id=None):
        """Read `path`; with `image_start_id` (of config.json) a vocabulary that does not belong to it is refused."""
        ranks = read_ranks(path, image_start_id)
        self.special = {text: len(ranks) + i for i, text in enumerate(SPECIAL_TOKENS)}
        self.vocab_size = len(ranks) + len(SPECIAL_TOKENS)
        self.end_of_text, self.im_start, self.im_end = (self.special[t] for t in SPECIAL_TOKENS[:3])
        self.image_start, self.image_end, self.image_pad = (self.special[t] for t in VISION_TOKENS[-3:])
        self._bpe = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=self.special)

    def encode(self, text, special="all"):
        """Token ids of `text`, which is NFC-normalised first.

        `special` limits which special tokens are recognised in it ("all" or a collection of their texts); the
        others are plain text, and so is one after a backslash, which is left out. `<img>path</img>` becomes the start
        id, the path's UTF-8 bytes as ids, padding up to 256 slots, the end id. Raises UserError for an unclosed `<img>`
        and for a path longer than 256 bytes.
        """
        if len(text) > MAX_TEXT:
            raise UserError(f"the text is longer than {MAX_TEXT} characters: shorten the prompt")
        text = unicodedata.normalize("NFC", reread(text))
        recognised = self.special if special == "all" else set(special)
        ids, end = [], 0
        try:
            for tag in TAG.finditer(text):
                if tag[0] in recognised:
                    ids += [*self._encode_plain(text[end:tag.start()], recognised), self.special[tag[0]]]
                    end = tag.end()
            ids += self._encode_plain(text[end:], recognised)
        except ValueError:  # the split pattern's engine gives up on enormous runs of white space
            raise UserError("the text cannot be split into tokens: shorten its runs of white space") from None
        out, end = [], 0
        while (start := _find(ids, self.image_start, end)) >= 0:
            stop = _find(ids, self.image_end, start)
            if stop < 0:
                raise UserError("unclosed image tag in the prompt: write <img>path</img>, or \\<img> for the tag as "
                                "text")
            out += ids[end:start]
            out += self._image_span(ids[start + 1:stop])
            end = stop + 1
        return out + ids[end:]

    def _encode_plain(self, text, recognised):
        """Ids of a text without tags; tags after a backslash lose it."""
        text = TAG.sub(lambda tag: tag[0][1:] if tag[0][0] == "\\" and tag[0][1:] in recognised else tag[0], text)
        return self._bpe.encode(text, allowed_special=set(), disallowed_special=())

    def is_control(self, token):
        """Whether an id is a special token other than the vision tokens: end of text, a turn's, an extra."""
        return self.end_of_text <= token < self.special[VISION_TOKENS[0]]

    def _image_span(self, content):
        if any(i >= self.end_of_text for i in content):
            raise UserError("a special token inside <img>…</img>: only a path may stand there")
        path = self._bpe.decode_bytes(content)
        if len(path) > QUERIES:
            what = "data: address" if path[:5].lower() == b"data:" else "path"
            raise UserError(f"the {what} in <img>…</img> has {len(path)} bytes, at most {QUERIES} fit: give the path "
                            "of a file")
        return [self.image_start, *path, *[self.image_pad] * (QUERIES - len(path)), self.image_end]

    def decode(self, ids, skip_special=False):
        """Text of token ids; an image span turns back into its path.

        Bytes that are no UTF-8 and ids without a token (config.json's vocabulary may be larger) come out as U+FFFD.
        `skip_special` leaves special tokens out.
        """
        return self.decode_bytes(ids, skip_special).decode("utf-8", errors="replace")

    def decode_bytes(self, ids, skip_special=False):
        """What `decode` decodes: the bytes, which may end within a character."""
        parts, i = [], 0
        while i < len(ids):
            path, stop = self._path_at(ids, i)
            if path is not None:
                parts.append(path if skip_special else b"<img>" + path + b"</img>")
                i = stop + 1
                continue
            if not 0 <= ids[i] < self.vocab_size:
                parts.append("\ufffd".encode())
            elif not (skip_special and ids[i] >= self.end_of_text):
                parts.append(self._bpe.decode_single_token_bytes(ids[i]))
            i += 1
        return b"".join(parts)

    def _path_at(self, ids, start):
        """(path bytes, index of the end id) when a well-formed image span starts here, else (None, None)."""
        if ids[start] != self.image_start:
            return None, None
        stop = _find(ids, self.image_end, start)
        slots = ids[start + 1:stop] if stop >= 0 else [-1]
        pad = _find(slots, self.image_pad, 0)
        path = slots if pad < 0 else slots[:pad]
        return (bytes(path), stop) if all(0 <= i < 256 for i in path) else (None, None)


def _find(ids, value, start):
    """Index of `value` in `ids` from `start` on, -1 when it is not there."""
    try:
        return ids.index(value, start)
    except ValueError:
        return -1
