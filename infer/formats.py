"""In which formats a language graph's matrices are kept: what WEIGHTS= asks for, and what takes it.

A text names them, as users give it and engines say it: one format, or that of the decoder and that of the head with a +
between. "auto" is what loses nothing; rounding is never done unasked. Numbers that a checkpoint has quantised are kept
or multiplied out, and not rounded again.
"""

from dataclasses import dataclass
from types import SimpleNamespace

from core.errors import UserError
from ops import formats
from ops.formats.base import Codes, Plain, Quantised
from ops.quantisation import dequantised, in_groups
from ops.weights import HEAD, MATRICES

AUTO = "auto"
DECODER = tuple(name for name in MATRICES if name != HEAD)


@dataclass(frozen=True)
class Choice:
    """Matrices that are kept in the same format: the first of `candidates`, Formats, that holds all of them."""

    matrices: tuple
    candidates: tuple
    refusal: str   # what is said if there is none


def check(weights):
    """`weights` as it is, after checking that it names formats; raises UserError."""
    names = weights.split("+")
    if weights != AUTO and (len(names) > 2 or not set(names) <= set(formats.NAMES)):
        raise UserError(f"WEIGHTS={weights} is no format: use {AUTO}, one of {', '.join(formats.NAMES)}, or two of "
                        "them with a + between, for decoder and head")
    return weights


def named(decoder, head):
    """The text that names the formats of decoder and head."""
    return decoder.name if decoder is head else f"{decoder.name}+{head.name}"


def choices(weights, manifest, placement):
    """The Choices for what `weights` asks of a language graph with this Manifest on a device; raises UserError."""
    decoder, _, head = check(weights).partition("+")
    plain = formats.get(manifest.dtype)
    lossless = [format for format in formats.packed() if _serves(format, manifest, placement)]
    if decoder == AUTO and manifest.quantised is None:
        return [Choice(MATRICES, (*lossless, plain), "")]
    if decoder == AUTO:
        found = sorted((format for format in formats.quantised() if _serves(format, manifest, placement)),
                       key=lambda format: format.bits)
        refusal = (f"no format here keeps the checkpoint's {manifest.quantised.description} for this model: "
                   f"WEIGHTS={plain.name} multiplies them out")
    else:
        found, refusal = [_asked(decoder, manifest, placement)], (
            f"WEIGHTS={decoder} cannot hold the checkpoint's weights, {manifest.quantised.description}, which are not "
            "rounded again: use WEIGHTS=auto") if manifest.quantised else _lossy_refusal(decoder)
    both = decoder != AUTO and isinstance(found[0], Quantised) and found[0].rounds_head
    last = head or (found[0].name if both or found == [plain] else "")
    heads = [_asked(last, manifest, placement)] if last else [*lossless, plain]
    if found == heads and manifest.quantised is None:
        return [Choice(MATRICES, tuple(found), refusal)]
    return [Choice(DECODER, tuple(found), refusal), Choice((HEAD,), tuple(heads), _lossy_refusal(last))]


def check_asked(weights, config, dtype, placement):
    """Raise UserError where fused graphs of a type, of a model of these sizes, cannot be had in the formats that are
    named; what numbers a format holds shows on loading."""
    graph = SimpleNamespace(config=config, dtype=dtype, impl="fused")
    for name in () if weights == AUTO else check(weights).split("+"):
        _asked(name, graph, placement)


def _lossy_refusal(name):
    return f"WEIGHTS={name} loses nothing, and these weights need more bits: use WEIGHTS=auto"


def _serves(format, manifest, placement):
    """Whether the operators there read a packed format beside activations of the graph's type."""
    computed = isinstance(format, Quantised) and not placement.on_gpu or format.values == manifest.dtype
    return manifest.impl == "fused" and computed and format.is_usable(manifest.config, placement)


def _asked(name, manifest, placement):
    """The Format of that name; UserError where it cannot be had."""
    format = formats.get(name)
    if isinstance(format, Plain):
        if name != manifest.dtype:
            remedy = f"DTYPE={name}" if name in placement.dtypes else f"WEIGHTS={manifest.dtype}"
            raise UserError(f"WEIGHTS={name}: the graphs were exported in {manifest.dtype}: use {remedy}")
    elif manifest.impl != "fused":
        raise UserError(f"WEIGHTS={name} is for the fused graphs: use IMPL=fused")
    elif not _serves(format, manifest, placement):
        raise UserError(f"WEIGHTS={name}: nothing here reads {format.description} for a model of these sizes in "
                        f"{manifest.dtype} on this {placement.kind}: use WEIGHTS=auto")
    return format


def packed(format, values, packer):
    """Tensors of a matrix in a packed format, None if it cannot be.

    values: numpy as exported, or Codes; packer: the format's.
    """
    if not isinstance(values, Codes):
        return packer.pack(values)
    codes = isinstance(format, Quantised) and in_groups(values, format.group)
    try:
        return codes and packer.keep(codes)
    except ValueError:
        return None


def numbers(format, values):
    """The same as numpy numbers of a plain format."""
    return format.pack(dequantised(values)) if isinstance(values, Codes) else values
