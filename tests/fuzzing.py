"""What the fuzz tests share: damaged bytes, odd JSON, and the one outcome besides success that may come out.

FUZZ=100 in the environment makes them try a hundred times as many inputs, others on every run.
"""

import os
import resource

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from core.errors import UserError

SPARE = 1 << 30  # bytes of address space that a reader may take beyond what the process has
LARGE = st.sampled_from([1 << 31, 1 << 63, -1 << 63, 1 << 64, 10**400])
NUMBERS = st.one_of(st.integers(-10, 10), st.integers(), LARGE, st.floats(), st.booleans())
TEXTS = st.text(max_size=20)
JSON = st.recursive(st.one_of(st.none(), NUMBERS, TEXTS), lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=8)


def fuzz(examples):
    """Settings of a fuzz test: the same inputs on every run, no limit on the time of one."""
    times = int(os.environ.get("FUZZ", 0))
    return settings(max_examples=examples * (times or 1), derandomize=not times, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


def survives(read, *arguments):
    """Call a reader; returns its result, None for a UserError, whose text must be one line that steers no terminal."""
    try:
        return read(*arguments)
    except UserError as fault:
        line = str(fault)
        assert line.isprintable() and len(line) < 6000, line
        return None


def damaged(content):
    """Strategy: `content` with some bytes overwritten, inserted or left out, or cut off."""
    places = st.integers(0, len(content))
    edit = st.tuples(st.sampled_from(["set", "insert", "remove", "cut"]), places, st.binary(min_size=1, max_size=8))

    def apply(edits):
        raw = bytearray(content)
        for kind, place, data in edits:
            place = min(place, len(raw))
            if kind == "cut":
                del raw[place + len(data):]
            else:
                raw[place:place + (0 if kind == "insert" else len(data))] = b"" if kind == "remove" else data
        return bytes(raw)

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def changed(content):
    """Strategy: a JSON object with some of its values, at any depth, replaced or left out, or with more keys."""
    paths = list(_paths(content))
    edit = st.tuples(st.sampled_from(paths), st.one_of(JSON, st.just(REMOVED)))

    def apply(edits):
        result = _copy(content)
        for path, value in edits:
            holder = result
            for key in path[:-1]:
                holder = holder[key] if _has(holder, key) else None
            if path and (isinstance(holder, dict) or _has(holder, path[-1])):
                if value is not REMOVED:
                    holder[path[-1]] = value
                elif _has(holder, path[-1]):
                    del holder[path[-1]]
        return result

    return st.one_of(st.lists(edit, min_size=1, max_size=4).map(apply), JSON)


REMOVED = object()


def _copy(value):
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _has(holder, key):
    if isinstance(holder, dict):
        return key in holder
    return isinstance(holder, list) and isinstance(key, int) and key < len(holder)


def _paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))
    if isinstance(value, dict):
        yield (*path, "extra")


class limited_memory:
    """While it lasts, the process may take at most `spare` bytes of address space more than it has."""

    def __init__(self, spare=SPARE):
        self._spare = spare

    def __enter__(self):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + self._spare, self._before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, self._before)
