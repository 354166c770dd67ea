"""The weight formats: each is a folder here that holds all there is to it, and a line in registry.h.

A format that other programs need no name for is found by what it can do: `packed`, `quantised`.
"""

import contextlib
import functools
import importlib
import re
from pathlib import Path

from ops.formats.base import Plain, Quantised
from ops.framework import devices


def registry_names(text):
    """Names of the formats in the text of a registry.h, in its order."""
    return tuple(re.findall(r'^#include "ops/formats/(\w+)/format\.h"$', text, re.MULTILINE))


# A format's place is its number for the kernels.
NAMES = registry_names(Path(__file__).with_name("registry.h").read_text(encoding="utf-8"))


@functools.cache
def get(name):
    """The Format of this name; KeyError if there is none."""
    if name not in NAMES:
        raise KeyError(name)
    found = importlib.import_module(f"ops.formats.{name}").FORMAT
    found.name = name
    return found


def plain():
    """{name: Plain} of the floating types."""
    return {name: get(name) for name in NAMES if isinstance(get(name), Plain)}


def packed(values=None):
    """The formats that pack without loss, of weights of type `values` if it is given."""
    return [get(name) for name in NAMES if not isinstance(get(name), (Plain, Quantised))
            and values in (None, get(name).values)]


def quantised():
    """The formats that round: nothing takes them unless it is told to."""
    return [get(name) for name in NAMES if isinstance(get(name), Quantised)]


def of_both(weights):
    """(decoder's Format, head's) of a text that names both with a + between, or one for both."""
    decoder, _, head = weights.partition("+")
    return get(decoder), get(head or decoder)


def describe(weights):
    """What tables say of the formats of decoder and head; the text where this version knows none."""
    if not set(weights.split("+")) <= set(NAMES):
        return weights
    decoder, head = of_both(weights)
    return decoder.description + (f", those of the head in {head.description}" if head is not decoder else "")


def held(name, matrix):
    """A float32 numpy matrix as it is in that format, which may round it."""
    return get(name).unpack(get(name).pack(matrix)) if isinstance(get(name), Quantised) else matrix


def packed_tensors(name, matrix, placement):
    """A numpy matrix in a packed format: its tensors on a device, whatever Paddle's default one is."""
    with devices.using(placement), contextlib.closing(get(name).packer(placement)) as packer:  # it takes memory there
        return packer.pack(matrix)
