"""Does this device compute right? Every operator on small random data, against the plain layers in fp32 on the CPU.

A Paddle wheel without device code for the card in the machine gives garbage and no error: nothing may be reported
from such a device, so engines on a GPU run this first. It takes about a second. It launches every kernel of ours that
a model may (tests/gpu/test_selfcheck_gpu.py), whichever way of a matrix product is the fastest here: the model's layers
are too small for the products' tiles, which are checked by themselves.
`python -m ops.selfcheck --device gpu` prints every operator's error; status core.errors.NO if a fused one is wrong.
"""

import argparse
import itertools

import numpy as np

from core.config import QUERIES, ModelConfig, VisionConfig
from core.errors import NO, NotHere, UserError, run_cli
from core.placement import CPU, DTYPES, Placement
from ops import cuda_libraries, formats, functional, library
from ops.framework import devices, import_paddle
from ops.framework.tensors import upload
from ops.products import relative_error, tile_errors
from ops.weights import MATRICES, STAGES

paddle = import_paddle()
F = paddle.nn.functional

# Largest ‖error‖ / ‖reference‖. Rounding alone gives about a fifth of these on this geometry; a wrong kernel gives 1.
LIMITS = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 1e-3}
GEOMETRY = ModelConfig(
    vocab_size=512, hidden_size=256, num_hidden_layers=2, num_attention_heads=2, kv_channels=128, intermediate_size=512,
    seq_length=16, max_position_embeddings=512, layer_norm_epsilon=1e-6, rotary_emb_base=10000.0, use_dynamic_ntk=True,
    use_logn_attn=True,
    visual=VisionConfig(image_size=112, patch_size=14, width=208, layers=2, heads=2, mlp_ratio=4.0, output_dim=256,
                        image_start_id=480))
PROMPT, SLOTS = 37, 64
BATCHES = (1, 8)  # the fewest and the most rows of the decode kernel; one row's prompt is packed as it is


def check_operators(placement, dtype, rounded=()):
    """Check the fused operators on a device; raises UserError naming the first one that is wrong.

    rounded: names of formats that round, in which some weights are kept.
    """
    for operator, error in operator_errors(placement, dtype, rounded):
        if not error <= LIMITS[dtype]:  # also catches NaN
            raise UserError(f"the operator {operator} is wrong on this {placement.kind} in {dtype} (relative error "
                            f"{error:.2g}): rebuild it with `make ops` for this machine and run `make doctor`")


def wrong_in_paddle(placement):
    """Names of Paddle's own operators, of those that the native graphs use, whose kernels compute wrong here."""
    return [name for name, error in paddle_errors(placement) if not error <= LIMITS["float32"]]


def check_paddle(placement):
    """Check Paddle's own kernels that the native graphs use; raises NotHere naming the wrong ones."""
    wrong = wrong_in_paddle(placement)
    if wrong:
        raise NotHere(f"Paddle's own {', '.join(wrong)} give wrong results on this {placement.kind}: this Paddle "
                        "wheel has no kernels for it, so IMPL=native cannot run here; use IMPL=fused")


def operator_errors(placement, dtype, rounded=()):
    """Yield (operator, relative error) for every fused operator, with weights in `dtype`, in each format without loss
    that can be used, and in those that `rounded` names.

    The reference runs on the CPU. Its plain layers make tensors of their own, which Paddle puts on the default device:
    so that is the CPU meanwhile; the operators under test follow their inputs.
    """
    with devices.using(CPU):
        yield from _operator_errors(placement, dtype, rounded)


def _operator_errors(placement, dtype, rounded):
    rng = np.random.default_rng(0)
    weights = {name: _weights(rng, roles(GEOMETRY), dtype)
               for stage in STAGES.values() for name, roles in stage.items()}
    vision, places = GEOMETRY.visual, _places(placement, dtype)
    if placement.on_gpu:  # on the CPU Pillow does it
        yield "resize", _resize_error(rng, placement)
    pixels = rng.standard_normal([2, 3, vision.image_size, vision.image_size]).astype(np.float32)
    encoded = [functional.vision_encoder(upload(pixels, place), _move(weights["vision_encoder"], place, kind),
                                         heads=vision.heads, impl=impl) for place, kind, impl in places]
    yield "vision_encoder", relative_error(*encoded)
    features = [upload(np.zeros([2, QUERIES, GEOMETRY.hidden_size], np.float32), place, kind)
                for place, kind, _ in places]
    for (place, kind, impl), written in zip(places, features):
        functional.resampler(upload(encoded[1].numpy(), place, kind), _move(weights["resampler"], place, kind),
                             written, heads=vision.resampler_heads, impl=impl)
    yield "resampler", relative_error(*features)
    tokens = rng.integers(0, GEOMETRY.vocab_size, [2, 300])
    starts = np.array([[1, 7], [0, 40]], np.int32)
    inputs = tokens, features[1].numpy(), starts, weights["embedding"]
    yield "embedding", relative_error(*(functional.embedding(*_move(inputs, place, kind), impl=impl)
                                        for place, kind, impl in places))
    lossless = (format.name for format in formats.packed(dtype) if format.is_usable(GEOMETRY, placement))
    for format in (dtype, *lossless, *rounded):
        checks = _language_errors(rng, weights, placement, dtype, format)
        if placement.on_gpu:
            checks = itertools.chain(checks, tile_errors(rng, placement, dtype, format))
        for name, error in checks:
            yield name if format == dtype else f"{name} with weights in {format}", error


def _resize_error(rng, placement):
    """Two passes of weighted sums over bytes, which must come out exactly."""
    size, taps, (height, width) = 20, 5, (31, 44)
    image, values = rng.integers(0, 256, [height, width, 3], np.uint8), rng.random([3, 256]).astype(np.float32)
    tables = [np.concatenate([rng.integers(0, count - taps, [size, 1]), rng.integers(-1 << 21, 1 << 21, [size, taps])],
                             axis=1).astype(np.int32) for count in (width, height)]
    errors = []
    for columns_first in (False, True):
        reference = image.astype(np.int64)
        for axis in (0, 1) if columns_first else (1, 0):
            first, weights = tables[1 - axis][:, :1], tables[1 - axis][:, 1:].astype(np.int64)
            taken = np.moveaxis(np.take(reference, first + np.arange(taps), axis), axis + 1, -1)
            reference = np.moveaxis(taken, axis, -2) * weights
            reference = np.clip((reference.sum(-1) + (1 << 21)) >> 22, 0, 255)
            reference = np.moveaxis(reference, -1, axis)
        expected = np.take_along_axis(values, reference.reshape(-1, 3).T, axis=1).reshape([1, 3, size, size])
        pixels = upload(np.zeros([1, 3, size, size], np.float32), placement)
        functional.resize(*(upload(a, placement) for a in (image, *tables, values)), pixels, index=0,
                          columns_first=columns_first)
        errors.append(0.0 if np.array_equal(pixels.numpy(), expected) else np.inf)
    return max(errors)


def _places(placement, dtype):
    """What is compared: (placement, dtype, implementation), first what is under test, then the reference."""
    return (placement, dtype, "fused"), (CPU, "float32", "native")


def _language_errors(rng, weights, placement, dtype, format):
    """The decoder over a prompt and a decode step, then the head, each with its state, for each of BATCHES.

    format: the format of the matrices of what is under test.
    """
    places = _places(placement, dtype)
    weights = [{operator: _move(weights[operator], place, kind) for operator in ("decoder", "lm_head")}
               for place, kind, _ in places]
    if format != dtype:
        for operator, role in (name.split(".") for name in MATRICES):
            matrix = weights[1][operator][role].numpy()
            weights[0][operator][role] = formats.packed_tensors(format, matrix.astype(dtype), placement)
            weights[1][operator][role] = upload(formats.held(format, matrix), CPU)
    for batch in BATCHES:
        for checks in (_decoder_errors, _head_errors):
            yield from checks(rng, places, weights, format, batch)


def _decoder_errors(rng, places, weights, format, batch):
    """A prompt in each row, then a decode step."""
    heads, width = GEOMETRY.num_attention_heads, GEOMETRY.kv_channels
    cache = np.zeros([GEOMETRY.num_hidden_layers, batch, heads, SLOTS, width], np.float32)
    caches = [_move([cache, cache], place, kind) for place, kind, _ in places]
    inv_freq = rng.random([batch, width // 2]).astype(np.float32)
    positions = np.zeros([batch], np.int32)
    for step, lengths in (("prefill", PROMPT - 4 * np.arange(batch)), ("decode", np.ones([batch]))):
        lengths = lengths.astype(np.int32)
        hidden = rng.standard_normal([batch, max(lengths), GEOMETRY.hidden_size]).astype(np.float32)
        results = [functional.decoder(
            *_move([hidden], place, kind), *_move([lengths, positions, inv_freq], place, "float32"), tensors["decoder"],
            *cache, heads=heads, seq_length=GEOMETRY.seq_length, eps=1e-6, format=format, impl=impl)
            for (place, kind, impl), tensors, cache in zip(places, weights, caches)]
        yield f"decoder ({step}, batch {batch})", relative_error(*results, np.arange(max(lengths)) < lengths[:, None])
        positions = positions + lengths


def _head_errors(rng, places, weights, format, batch):
    """The head after a prompt, for more columns than the last and for it alone, and after a decode step."""
    whole, ones = 9 - np.arange(batch, dtype=np.int32), np.ones([batch], np.int32)
    first, last = 0 * whole[:, None], whole[:, None] - 1
    for name, columns, lengths in (("all logits", np.concatenate([first, last], 1), whole), ("prefill", last, whole),
                                   ("decode", first, ones), ("sampled", first, ones)):
        hidden = rng.standard_normal([batch, max(lengths), GEOMETRY.hidden_size]).astype(np.float32)
        yield f"lm_head ({name}, batch {batch})", _lm_head_error(places, weights, format, hidden, columns,
                                                                 lengths, name == "sampled")


def _lm_head_error(places, weights, format, hidden, columns, lengths, sampled):
    """Error of the head's logits; infinite where the state that it leaves does not follow from them.

    sampled: the fused operator draws its token, but among the likeliest one alone.
    """
    batch = len(lengths)
    record = np.array([(1.0, 0.5, 1, 1.0, 0, 0)], "<f4, <f4, <i4, <f4, <i4, <u8").view(np.int32)  # top_k = 1
    record = np.tile(np.pad(record, (0, -(-GEOMETRY.vocab_size // 32))), (batch, 1))
    results, states = [], []
    for (place, kind, impl), tensors in zip(places, weights):
        state = [upload(array, place) for array in (
            np.zeros([batch], np.int32), np.zeros([batch, 1], np.int64), np.zeros([batch, 4], np.int64),
            np.zeros([batch], np.int32), np.zeros([batch], np.int32))]
        if sampled and impl == "fused":
            state.append(upload(record, place))
        results.append(functional.lm_head(
            *_move([hidden], place, kind), upload(lengths, place), upload(columns, place),
            upload(np.array([-1], np.int64), place), tensors["lm_head"], *state, eps=1e-6, format=format, impl=impl))
        states.append([tensor.numpy() for tensor in state[:5]])
    # Of the device's own logits: rounding may decide a near tie.
    chosen = results[0].numpy()[:, -1].argmax(-1)[:, None]
    expected = [lengths, chosen, np.pad(chosen, ((0, 0), (0, 3))), np.ones([batch]), np.zeros([batch])]
    right = all(np.array_equal(a, b) for a, b in zip(states[0], expected))
    return relative_error(*results) if right else np.inf


def paddle_errors(placement):
    """Yield (operator, relative error) for Paddle's own kernels on the device against those on the CPU."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal([16, 64]).astype(np.float32) for _ in range(2))
    for name, function in (
            ("add", lambda a, b: a + b), ("matmul", lambda a, b: paddle.matmul(a, b, transpose_y=True)),
            ("softmax", lambda a, b: F.softmax(a, -1)), ("gelu", lambda a, b: F.gelu(a)),
            ("layer_norm", lambda a, b: F.layer_norm(a, 64)),
            ("cast", lambda a, b: a.astype("float16").astype("float32")),
            ("argmax", lambda a, b: paddle.argmax(a, -1)), ("concat", lambda a, b: paddle.concat([a, b]))):
        yield name, relative_error(*(function(upload(x, place), upload(y, place)) for place in (placement, CPU)))


def _weights(rng, roles, dtype):
    """Random weights that `dtype` and formats without loss hold exactly, so that only the arithmetic differs: those of
    float16 are bfloat16's, too."""
    weights = {role: rng.standard_normal(shape) / np.sqrt(shape[-1]) + (0.5 if "ln" in role else 0.0)
               for role, shape in roles.items()}
    bits = "bfloat16" if dtype == "float16" else dtype
    return {role: upload(array.astype(np.float32), CPU, bits).astype(dtype).astype("float32").numpy()
            for role, array in weights.items()}


def _move(values, placement, dtype):
    """Arrays, or dicts of them, to tensors: floats as `dtype`, integers as they are."""
    if isinstance(values, dict):
        return {name: upload(array, placement, dtype) for name, array in values.items()}
    return [_move(v, placement, dtype) if isinstance(v, dict) else
            upload(v, placement, dtype if v.dtype == np.float32 else None) for v in values]


def main():
    parser = argparse.ArgumentParser(description="Check a device's operators against plain layers in fp32 on the CPU.")
    parser.add_argument("--device", choices=DTYPES, default="cpu")
    placement = Placement(parser.parse_args().device)
    if placement.on_gpu:
        cuda_libraries.check()
    library.load(placement)
    wrong = 0
    for dtype in ("float16", "bfloat16") if placement.on_gpu else ("float32",):
        rounded = [format.name for format in formats.quantised() if not placement.on_gpu or format.values == dtype]
        for operator, error in operator_errors(placement, dtype, rounded):
            right = error <= LIMITS[dtype]
            wrong += not right
            print(f"{'ok   ' if right else 'WRONG'} {operator} in {dtype}: relative error {error:.1e}")
    for operator, error in paddle_errors(placement):
        state = "ok   " if error <= LIMITS["float32"] else "WRONG"
        print(f"{state} Paddle's own {operator} (native graphs only): relative error {error:.1e}")
    return NO if wrong else 0


if __name__ == "__main__":
    run_cli(main)
