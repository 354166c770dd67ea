"""What every operator of paddlenlp_ops and fused_ln must give, in numpy, over odd shapes, on a CPU and on a GPU."""

from dataclasses import dataclass, field

import numpy as np

LENGTHS = ([7], [3, 0, 5], [1, 9, 4, 9])  # tokens of the rows of a batch; a row of none takes no part
HEADS = ((1, 8), (3, 20), (2, 128))       # (heads, width of one); 20 fp16 values are no multiple of 16 bytes
FLOATS = ("float32", "float16", "bfloat16")


@dataclass
class Case:
    """One call: `inputs` are numpy arrays, `expected` the outputs."""

    operator: str
    inputs: list
    expected: list
    attributes: dict = field(default_factory=dict)
    inplace: dict = field(default_factory=dict)   # place of an input -> what it must hold afterwards
    dtype: str = "float32"                        # of the float32 inputs named in `cast`
    cast: tuple = ()
    close: tuple = (0.0, 0.0)                     # relative and absolute tolerance; zeros: equal


def rows(lengths):
    """(row, column) of every token."""
    return [(row, column) for row, length in enumerate(lengths) for column in range(length)]


def packing(lengths, columns):
    """padding_offset [T] and the padding before every row [B], int32."""
    before = np.concatenate([[0], np.cumsum(columns - np.array(lengths))[:-1]]).astype(np.int32)
    return np.array([before[row] for row, _ in rows(lengths)], np.int32), before


def column(values, dtype):
    """[B, 1]"""
    return np.array(values, dtype).reshape(-1, 1)


def padding_cases(rng):
    for lengths in LENGTHS:
        columns, batch = max(lengths), len(lengths)
        ids = rng.integers(0, 1000, [batch, columns])
        offset, before = packing(lengths, columns)
        inputs = [ids, np.cumsum(columns - np.array(lengths)).astype(np.int32), np.array(sum(lengths), np.int64),
                  column(lengths, np.int32)]
        packed = np.array([ids[place] for place in rows(lengths)])
        yield Case("get_padding_offset", inputs, [packed, before, offset])
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        yield Case("get_padding_offset_v2", inputs, [packed, before, offset, starts, starts])

        for dtype, width in zip(FLOATS, (5, 16, 33), strict=True):
            hidden = rng.standard_normal([sum(lengths), width]).astype(np.float32)
            where = {place: token for token, place in enumerate(rows(lengths))}
            last = np.stack([hidden[where[row, length - 1]] if length else np.zeros(width, np.float32)
                             for row, length in enumerate(lengths)])
            inputs = [hidden, before, column(lengths, np.int32), ids]
            yield Case("rebuild_padding", inputs, [last], dtype=dtype, cast=(0,))
        decoding = [int(length == 1) for length in lengths]  # rows of one token are decoded, the others are prompts
        encoder = [0 if now else length for now, length in zip(decoding, lengths, strict=True)]
        inputs = [hidden, before, column(decoding, np.int32), column(encoder, np.int32)]
        yield Case("rebuild_padding_v2", inputs, [last], {"max_input_length": columns})


def head_cases(rng):
    for lengths in LENGTHS:
        columns, batch, tokens = max(lengths), len(lengths), sum(lengths)
        offset, _ = packing(lengths, columns)
        for (heads, width), dtype in zip(HEADS, FLOATS, strict=True):
            qkv = rng.standard_normal([tokens, 3, heads, width]).astype(np.float32)
            padded = np.zeros([3, batch, heads, columns, width], np.float32)
            for token, (row, place) in enumerate(rows(lengths)):
                padded[:, row, :, place] = qkv[token]
            shared = [offset, column(lengths, np.int32), np.zeros([batch, columns], np.int64)]
            yield Case("qkv_transpose_split", [qkv.reshape(tokens, -1), *shared], list(padded),
                       {"num_head": heads, "head_size": width}, dtype=dtype, cast=(0,))
            merged = np.stack([padded[0, row, :, place].ravel() for row, place in rows(lengths)])
            yield Case("transpose_remove_padding", [padded[0], shared[1], offset], [merged], dtype=dtype, cast=(0,))


def rotary_table(positions, width, neox):
    """[2, B, 1, S, width] for positions [B, S], computed in float64."""
    angles = positions[..., None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.concatenate([angles, angles], -1) if neox else np.repeat(angles, 2, -1)
    return np.stack([np.cos(angles), np.sin(angles)])[:, :, None].astype(np.float32)


def rotated(x, table, lengths, dims, neox):
    """x [B, H, S, W] rotated up to each row's length, `dims` parts of a head each on its own."""
    batch, heads, columns, width = x.shape
    parts = x.reshape(batch, heads, columns * dims, width // dims).astype(np.float64)
    cos, sin = table.reshape(2, batch, 1, columns * dims, width // dims).astype(np.float64)
    half = width // dims // 2
    if neox:
        turned = np.concatenate([-parts[..., half:], parts[..., :half]], -1)
    else:
        turned = np.stack([-parts[..., 1::2], parts[..., ::2]], -1).reshape(parts.shape)
    turned_heads = parts * cos + turned * sin
    for row, length in enumerate(lengths):
        turned_heads[row, :, length * dims:] = parts[row, :, length * dims:]
    return turned_heads.reshape(x.shape).astype(np.float32)


def rotary_cases(rng):
    for neox in (True, False):
        for first, batch, columns, width in ((0, 1, 1, 2), (0, 3, 7, 20), (3, 2, 5, 128)):
            positions = rng.integers(0, 2048, [batch, first + columns + 2])
            yield Case("fused_get_rotary_embedding",
                       [np.zeros([batch, columns], np.int64), positions, np.zeros(width, np.int8)],
                       [rotary_table(positions[:, first:first + columns], width, neox)],
                       {"prompt_num": first, "use_neox": neox}, close=(0, 3e-4))  # fp32 angles up to 2048 radians
        for lengths, (heads, width), dtype, dims in zip(LENGTHS, HEADS, FLOATS, (1, 2, 1), strict=True):
            columns, batch = max(lengths), len(lengths)
            q, k = rounded(rng.standard_normal([2, batch, heads, columns, width]), dtype)
            table = rotary_table(rng.integers(0, 50, [batch, columns]), width, neox)
            expected = {place: rotated(x, table, lengths, dims, neox) for place, x in enumerate((q, k))}
            yield Case("encode_rotary_qk", [q, k, table, column(lengths, np.int32)], list(expected.values()),
                       {"rotary_emb_dims": dims, "use_neox": neox}, expected, dtype, (0, 1), (2e-6, 2e-6))


def cache_cases(rng):
    shapes = (3, 12, 7), (2, 24, 31), (5, 128, 9)
    for lengths, dtype, (heads, width, slots) in zip(LENGTHS, FLOATS, shapes, strict=True):
        columns, batch = max(lengths), len(lengths)
        keys, values = rng.standard_normal([2, batch, heads, columns, width]).astype(np.float32)
        cache = rng.standard_normal([2, batch + 1, heads, slots, width]).astype(np.float32)
        chunk = 4 if dtype == "float32" else 8  # values in 16 bytes: keys lie as [width / chunk, slots, chunk]
        expected = cache.copy()
        key_cache = expected[0].reshape(batch + 1, heads, width // chunk, slots, chunk)
        for row, at in rows(lengths):
            key_cache[row, :, :, at] = keys[row, :, at].reshape(heads, width // chunk, chunk)
            expected[1, row, :, at] = values[row, :, at]
        inputs = [keys, values, cache, column(lengths, np.int32)]
        yield Case("write_cache_kv", inputs, [expected], {}, {2: expected}, dtype, (0, 1, 2))


def penalized(history, logits, penalty, frequency, presence, lengths, least, ends):
    """The documented order: end tokens of rows that are too short, then all penalties of what was said."""
    scores = logits.copy()
    for row in range(len(logits)):
        if 0 <= lengths[row] < least[row]:
            scores[row, ends] = -1e10
        if lengths[row] < 0:
            continue
        said = history[row][:np.argmax(history[row] < 0)] if (history[row] < 0).any() else history[row]
        for token, times in zip(*np.unique(said, return_counts=True), strict=True):
            value = scores[row, token]
            value = value * penalty[row] if value < 0 else value / penalty[row]
            scores[row, token] = value - times * frequency[row] - presence[row]
    return scores


def generation_cases(rng):
    for batch, columns, vocabulary in ((1, 5, 11), (4, 17, 301)):
        history = rng.integers(0, vocabulary, [batch, columns])
        history[:, columns // 2:] = -100
        history[0] = rng.integers(0, 3, columns)  # full, and with repeats
        history[-1, 0] = -100                     # nothing said
        steps = column(np.arange(batch) - 1, np.int64)  # the first row writes nothing
        stopped = column(np.arange(batch) == 2, bool)
        now = column(rng.integers(0, vocabulary, batch), np.int64)
        noted = history.copy()
        for row in range(batch):
            if steps[row, 0] >= 0 and not stopped[row, 0]:
                noted[row, steps[row, 0]] = now[row, 0]
        yield Case("set_value_by_flags_and_idx", [history, now, steps, stopped], [stopped], {}, {0: noted})

        encoder = column([3, 0, 5, 0][:batch], np.int32)
        decoder = column([0, 6, 0, 0][:batch], np.int32)  # a prompt, a decoded token, a stopped prompt, nothing
        steps_v2, ids = column(np.arange(batch), np.int64), rng.integers(0, vocabulary, [batch, 5])
        noted = history.copy()
        for row in range(batch):
            last = 0 if decoder[row, 0] else encoder[row, 0] - 1
            if not stopped[row, 0] and last >= 0:
                noted[row, row] = ids[row, last]
        inputs = [history, ids, np.ones_like(encoder), encoder, decoder, steps_v2, stopped]
        yield Case("set_value_by_flags_and_idx_v2", inputs, [noted], {}, {0: noted})

        logits = (3 * rng.standard_normal([batch, vocabulary])).astype(np.float32)
        scores = [column(values[:batch], np.float32) for values in ([1.3, 1.0, 0.7, 2.0], [0.2, 0.0, 0.5, 0.1],
                                                                    [0.4, 0.0, 0.1, 0.3])]
        lengths, least = column([2, 5, -1, 0][:batch], np.int64), column([3, 5, 4, 9][:batch], np.int64)
        ends = np.array([2, 7], np.int64)
        expected = penalized(history, logits, *(s[:, 0] for s in scores), lengths[:, 0], least[:, 0], ends)
        yield Case("get_token_penalty_multi_scores", [history, logits, *scores, lengths, least, ends], [expected],
                   close=(1e-6, 1e-6))
        temperatures = column([0.5, 1.0, 2.0, 0.9][:batch], np.float32)
        bad = np.array([-1, 4, vocabulary + 3], np.int64)
        expected = expected / temperatures
        expected[:, 4] = -1e10
        inputs = [history, logits, *scores, temperatures, bad, lengths, least, ends]
        yield Case("get_token_penalty_multi_scores_v2", inputs, [expected], {}, {1: expected}, close=(1e-6, 1e-6))

        tokens, flags = column([7, 4, 9, 4][:batch], np.int64), column([False, True, False, True][:batch], bool)
        after = np.where(flags, ends[0], tokens)
        outputs = [after, flags | np.isin(after, ends)]
        yield Case("set_stop_value_multi_ends", [tokens, flags, ends], outputs, {"mode": 2})
        present, following = column([1, 0, 1, 1][:batch], np.int32), column([50, 51, 52, 53][:batch], np.int64)
        after = np.where(flags, np.where(present == 0, -1, ends[0]), tokens)
        after_next = np.where(flags & (present == 0), following, after)
        after_flags = flags | np.isin(after, ends)
        yield Case("set_stop_value_multi_ends_v2", [tokens, flags, present, ends, following],
                   [after, after_flags, after_next], {}, {0: after, 1: after_flags, 4: after_next})


def rounded(values, dtype):
    """fp32 values rounded to `dtype`, still fp32."""
    values = np.asarray(values, np.float32)
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return values.astype(dtype).astype(np.float32)


def norm_cases(rng):
    half = {"float32": (2e-6, 2e-6), "float16": (2e-3, 1e-3), "bfloat16": (1.6e-2, 8e-3)}  # two roundings
    for dtype in FLOATS:
        for shape in ((1, 1), (3, 7), (2, 5, 257), (4, 1664)):
            x, weight, bias = (rounded(values, dtype) for values in (
                rng.standard_normal(shape) * 3 + 20, 1 + rng.standard_normal(shape[-1]),
                rng.standard_normal(shape[-1])))
            for epsilon in (1e-6, 1e-2):
                wide = x.astype(np.float64).reshape(-1, shape[-1])
                scale = 1 / np.sqrt((wide ** 2).mean(-1) + epsilon)
                y = rounded((wide * scale[:, None]), dtype) * weight
                yield Case("fused_rms_norm", [x, weight], [y.reshape(shape), scale], {"epsilon": epsilon}, {}, dtype,
                           (0, 1), half[dtype])
                mean, deviation = wide.mean(-1), wide - wide.mean(-1, keepdims=True)
                scale = 1 / np.sqrt((deviation ** 2).mean(-1) + epsilon)
                y = deviation * scale[:, None] * weight + bias
                yield Case("fused_layer_norm", [x, weight, bias], [y.reshape(shape), mean, scale],
                           {"epsilon": epsilon}, {}, dtype, (0, 1, 2), tuple(max(limit, 2e-5) for limit in half[dtype]))


def all_cases():
    """Every case, the same at every call."""
    for number, make in enumerate((padding_cases, head_cases, rotary_cases, cache_cases, generation_cases, norm_cases)):
        yield from make(np.random.default_rng(number))
