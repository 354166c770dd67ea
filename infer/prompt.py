"""Prompts in the published formats, and where their images stand."""

import os
import re

import numpy as np

from core.config import QUERIES
from core.errors import UserError
from infer.tokenizer import VISION_TOKENS

LABEL = "Picture {}:"         # base model, early chat releases
CHAT_LABEL = "Picture {}: "   # current chat release
BENCHMARK_PROMPT = "Generate the caption in English with grounding:"
SYSTEM = "You are a helpful assistant."
NUMBERS = {"box": 4, "quad": 8}
MAX_WINDOW = 6144             # tokens; the published chat default
OPENING = re.compile(r"(?<!\\)<(img|ref|box|quad)>")  # after a backslash a tag is text
CLOSING = {tag: re.compile(rf"(?<!\\)</{tag}>") for tag in ("img", "ref", "box", "quad")}


def from_list_format(parts, label=CHAT_LABEL, first=1):
    """Text of a list of parts, each {"image": path}, {"text": …}, {"ref": …, "box": [[x1, y1, x2, y2], …]} or
    {"ref": …, "quad": [[x1, …, y4], …]}; `label` numbers the pictures (LABEL or CHAT_LABEL)
    from `first` on."""
    text, picture = "", first - 1
    for part in parts:
        if "image" in part:
            picture += 1
            text += f"{label.format(picture)}<img>{part['image']}</img>\n"
        elif isinstance(part.get("text"), str):
            text += part["text"]
        elif "ref" in part and ("box" in part or "quad" in part):
            kind = "box" if "box" in part else "quad"
            text += f"<ref>{part['ref']}</ref>" + "".join(_region(kind, points) for points in _listed(part[kind]))
        else:
            raise UserError(f"a prompt part needs an image, a text, or a ref with a box or quad: {part!r}")
    return text


def _region(kind, points):
    numbers = _listed(points)
    if len(numbers) != NUMBERS[kind] or not all(isinstance(n, int) for n in numbers):
        raise UserError(f"a {kind} in a prompt needs {NUMBERS[kind]} whole numbers: {points!r}")
    pairs = ",".join(f"({x},{y})" for x, y in zip(numbers[::2], numbers[1::2]))
    return f"<{kind}>{pairs}</{kind}>"


def _listed(values):
    if not isinstance(values, (list, tuple)):
        raise UserError(f"a prompt's boxes and quads are lists of lists of numbers: {values!r}")
    return values


def to_list_format(text):
    """The parts of a text in order: {"image" | "ref" | "box" | "quad": content} for closed tags, {"text": …} else."""
    parts, end = [], 0
    while end < len(text):
        opened = OPENING.search(text, end)
        closed = opened and CLOSING[opened[1]].search(text, opened.end())
        if not closed:
            parts.append({"text": text[end:]})
            break
        if opened.start() > end:
            parts.append({"text": text[end:opened.start()]})
        parts.append({"image" if opened[1] == "img" else opened[1]: text[opened.end():closed.start()]})
        end = closed.end()
    return parts


def images_of(text, files):
    """The image files of a prompt: those that `<img>path</img>` in it names, else `files`; UserError for both."""
    named = [part["image"] for part in to_list_format(text) if "image" in part]
    files = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if named and files:
        raise UserError("images are given both in the prompt and as files: use one of the two")
    return named or files


def make_context(tokenizer, query, history=(), system=SYSTEM, max_window=MAX_WINDOW, chat_format="chatml"):
    """Prompt of one chat turn as (text, token ids).

    `history` holds (query, response) pairs, oldest first; the newest that fit into `max_window` tokens together with
    the system text are kept. `chat_format` is "chatml" or "raw" (the query alone). In chatml what users and the
    model wrote is never read as a turn's control token, only vision tokens are recognised in it.
    """
    if chat_format == "raw":
        return query, tokenizer.encode(query)
    if chat_format != "chatml":
        raise UserError(f"chat format {chat_format!r} is unknown: use chatml or raw")
    newline = tokenizer.encode("\n")

    def message(role, content):
        ids = [tokenizer.im_start, *tokenizer.encode(role, VISION_TOKENS), *newline,
               *tokenizer.encode(content, VISION_TOKENS), tokenizer.im_end]
        return f"<|im_start|>{role}\n{content}<|im_end|>", ids

    system_text, system_ids = message("system", system)
    text, ids = "", []
    for asked, answered in reversed(list(history)):
        asked_text, asked_ids = message("user", asked)
        answered_text, answered_ids = message("assistant", answered)
        turn = [*newline, *asked_ids, *newline, *answered_ids]
        if len(system_ids) + len(turn) + len(ids) >= max_window:
            break
        text, ids = f"\n{asked_text}\n{answered_text}{text}", turn + ids
    query_text, query_ids = message("user", query)
    text = f"{system_text}{text}\n{query_text}\n<|im_start|>assistant\n"
    ids = [*system_ids, *ids, *newline, *query_ids, *newline,
           tokenizer.im_start, *tokenizer.encode("assistant"), *newline]
    return text, ids


def with_image(text, images=1):
    """The base model's prompt with pictures before the text; `images` is their number or a list of their paths.

    The paths only name the pictures: their slots are overwritten by the image features.
    """
    paths = [f"{i}.jpg" for i in range(1, images + 1)] if isinstance(images, int) else images
    return from_list_format([*({"image": str(path)} for path in paths), {"text": text}], LABEL)


def image_spans(ids, image_start_id):
    """Columns of the first slot of every image span in one prompt, int32 [images].

    Raises UserError for a span that is unclosed or not of 256 slots, and for a closing tag without a start.
    """
    ids = np.asarray(ids, np.int64)
    tags = np.flatnonzero((ids == image_start_id) | (ids == image_start_id + 1)).tolist()  # few: lists are faster
    starts = [column for column in tags if ids[column] == image_start_id]
    ends = [column for column in tags if ids[column] != image_start_id]
    if len(starts) > len(ends):
        raise UserError("unclosed image tag in the prompt: write <img>path</img>")
    if len(starts) < len(ends):
        raise UserError("</img> without <img> in the prompt")
    for start, end in zip(starts, ends):
        if end - start - 1 != QUERIES:
            raise UserError(f"an image span in the prompt has {end - start - 1} slots instead of {QUERIES}")
    return np.array([start + 1 for start in starts], np.int32)


def check_prompt(ids, images, new_tokens, config):
    """Raise UserError unless a prompt holds `images` image spans and fits, with `new_tokens` more, the model."""
    if len(ids) + new_tokens > config.max_position_embeddings:
        raise UserError(f"the prompt has {len(ids)} tokens; with {new_tokens} new ones that exceeds the model's "
                        f"{config.max_position_embeddings} positions: shorten the prompt or NEW_TOKENS=")
    if len(image_spans(ids, config.image_start_id)) != images:
        raise UserError("the images of the prompt cannot be told apart: write each as <img>path</img>")
