"""Texts from outside (file names, prompts, messages) made fit to be shown: nothing in them steers a terminal."""

import os
import re
import shlex

FIRST_BYTE, LAST_BYTE = "\udc80", "\udcff"  # how Python keeps the bytes of a name that are no UTF-8


def escaped(text):
    r"""`text` in one line, what is not printable as an escape: \n, \x1b, \u202e; bytes that are no UTF-8 as \xe9."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character):
    if FIRST_BYTE <= character <= LAST_BYTE:
        return f"\\x{ord(character) & 0xFF:02x}"
    return ascii(character)[1:-1]


def one_line(text):
    """`escaped` with every run of white space as one space."""
    return escaped(" ".join(str(text).split()))


def plural(count, noun):
    """A number of things in words: "1 round", "2 rounds"; `noun` is one whose plural ends in s."""
    return f"{count} {noun}" + "s" * (count != 1)


def short(text, most=100):
    """`escaped`, at most `most` characters of it."""
    text = escaped(text)
    return text if len(text) <= most else text[:most - 1] + "…"


def escaped_texts(value):
    """A JSON value with every text in it `escaped`, names of fields included."""
    if isinstance(value, dict):
        return {escaped(name): escaped_texts(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [escaped_texts(inner) for inner in value]
    return escaped(value) if isinstance(value, str) else value


def reread(text):
    """`text` with the bytes of it that Python could not decode, and kept, read as UTF-8; what is none as U+FFFD."""
    return re.sub(f"[{FIRST_BYTE}-{LAST_BYTE}]+", lambda match: match[0].encode("utf-8", "surrogateescape").decode(
        "utf-8", "replace"), text)


def shell_line(words):
    """A line for bash that stands for exactly these words, printable whatever they hold."""
    return " ".join(shlex.quote(word) if word.isprintable() else _ansi_quoted(word) for word in words)


def _ansi_quoted(word):
    def quoted(c):
        if not c.isprintable():
            return "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
        return f"\\{c}" if c in "\\'" else c
    return f"$'{''.join(map(quoted, word))}'"
