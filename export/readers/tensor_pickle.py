"""Reads the structure of a pickle that holds tensors, and nothing else.

Only the instructions that a dictionary of tensors needs are understood, only the names a caller lists can be
reached, and what they stand for are objects of this package: no code of the file, or chosen by the file, runs.
Long byte strings are not read: a Span says where they lie.

What a pickle can make us spend is bounded: bytes and pieces read (each instruction reads one piece or more, and makes
one small object at most), and arguments of a call. Keys are texts: no nested tuple is hashed, which could take forever.
"""

import pickle
import struct
from collections import namedtuple

from core.errors import UserError
from export.stored import MAX_STRUCTURE_BYTES

Span = namedtuple("Span", "offset length")
MAX_PIECES = 1 << 19   # a 7B checkpoint in one file has some 100 000
MAX_ARGUMENTS = 8      # torch's tensors have seven
_OPCODES = [
    "PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "BINPUT", "LONG_BINPUT",
    "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID",
]


class StateDict(dict):
    """Stands for collections.OrderedDict."""

    def __init__(self):  # no argument: copies of copies could fill the memory
        super().__init__()

    def set_state(self, state):
        """Attributes of a state dictionary carry no weights: they are dropped."""


class _Reader:
    """The part of a file from `offset` to `end`, read in small, bounded pieces."""

    def __init__(self, source, offset, end):
        self.source, self.position, self.end = source, offset, end
        self._window, self._window_at, self._spent, self._pieces = b"", 0, 0, 0

    def read(self, length):
        self._spent += length
        self._pieces += 1
        if length > self.end - self.position:
            raise UserError(f"{self.source.path} is truncated inside its pickle")
        if self._spent > MAX_STRUCTURE_BYTES or self._pieces > MAX_PIECES:
            raise UserError(f"{self.source.path} holds far more structure than a checkpoint: not a file of tensors")
        first = self.position - self._window_at
        if not 0 <= first <= len(self._window) - length:
            want = min(max(length, 1 << 16), self.end - self.position)
            self._window, self._window_at, first = self.source.read(self.position, want).tobytes(), self.position, 0
        self.position += length
        return self._window[first:first + length]

    def readline(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
            if len(line) > 1024:
                raise UserError(f"{self.source.path} holds an overlong name in its pickle")
        return bytes(line)

    def skip(self, length):
        if length > self.end - self.position:
            raise UserError(f"{self.source.path} is truncated: {length} bytes were announced at {self.position}")
        span = Span(self.position, length)
        self.position += length
        return span


def _bytes_of(length_format):
    def load(unpickler):
        length, = struct.unpack(length_format, unpickler.read(struct.calcsize(length_format)))
        unpickler.append(unpickler._reader.skip(length))
    return load


class _Unpickler(pickle._Unpickler):
    """The pure Python unpickler with a short list of instructions and of names."""

    def __init__(self, reader, names, persistent):
        super().__init__(reader, encoding="latin1")
        self._reader, self._names, self._persistent = reader, names, persistent

    def find_class(self, module, name):
        try:
            return self._names[module, name]
        except KeyError:
            wanted = ascii(f"{module[:100]}.{name[:100]}")[1:-1]
            raise UserError(f"{self._reader.source.path} asks for {wanted}, which no tensor needs: "
                            "it may be malicious, or save the weights as safetensors and use that") from None

    def persistent_load(self, identity):
        return self._persistent(identity)

    def _refuse(self):
        raise UserError(f"{self._reader.source.path} holds a pickle instruction that no tensor needs")

    def _frame(self):
        self.read(8)  # a hint for buffering only

    def _reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function) or not isinstance(arguments, tuple) or len(arguments) > MAX_ARGUMENTS:
            self._refuse()
        self.append(function(*arguments))

    def _build(self):
        state = self.stack.pop()
        target = getattr(self.stack[-1], "set_state", None)
        if target is None or isinstance(self.stack[-1], type):
            self._refuse()
        target(state)

    def _set_item(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key], [value])

    def _set_items(self):
        items = self.pop_mark()
        self._set(items[::2], items[1::2])

    def _set(self, keys, values):
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str) for key in keys):
            self._refuse()
        self.stack[-1].update(zip(keys, values, strict=True))

    dispatch = {code: (lambda self: self._refuse()) for code in range(256)}
    dispatch.update({getattr(pickle, op)[0]: pickle._Unpickler.dispatch[getattr(pickle, op)[0]] for op in _OPCODES})
    dispatch.update({pickle.FRAME[0]: _frame, pickle.REDUCE[0]: _reduce, pickle.BUILD[0]: _build,
                     pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items,
                     pickle.SHORT_BINBYTES[0]: _bytes_of("<B"), pickle.BINBYTES[0]: _bytes_of("<I"),
                     pickle.BINBYTES8[0]: _bytes_of("<Q")})


def load(source, names, offset=0, end=None, persistent=None):
    """Read one pickle from `source`.

    `names` maps (module, name) to what stands for it; `persistent` resolves persistent ids. Raises UserError for
    anything else in the file.
    """
    reader = _Reader(source, offset, source.size if end is None else end)
    try:
        return _Unpickler(reader, names, persistent).load()
    except UserError:
        raise
    except Exception as e:  # a damaged pickle can fail in any way; none of them is worth a traceback
        raise UserError(f"{source.path} holds a damaged pickle ({type(e).__name__})") from None
