"""Device memory of the graphs' small inputs and state, kept from run to run."""

import math
from typing import NamedTuple

import numpy as np

from ops.framework import import_paddle, tensors

ALIGNMENT = 128         # bytes: kernels read vectors, and what they write shares no cache line with anything else
PACKED_BYTES = 1 << 13  # room for packed arrays at first: where it has to grow, all addresses change


class _Place(NamedTuple):
    """Where a packed array is: its first byte, its part of the host's memory, the same bytes on the device."""

    begin: int
    packed: np.ndarray
    tensor: object


class DeviceInputs:
    """Tensors by name and shape. Their addresses stay, so that CUDA graphs recorded with them are found again."""

    def __init__(self, placement):
        """`placement` is Paddle's default device."""
        self._placement = placement
        self._held = {}  # (name, shape, type) -> (tensor, the bytes in it or None)
        self._packed, self._memory = np.zeros(0, np.uint8), None  # of `pack`: the host's block and the device's
        self._layout, self._places = [], {}  # [(name, shape, type)] and {name: _Place} of what is packed

    def put(self, name, array):
        """The memory called `name` with the content of `array`."""
        tensor, _ = self._find(name, array)
        tensors.write(tensor, array, self._placement)
        return tensor

    def pack(self, **arrays):
        """Write small arrays into one block of the host's memory, in this order; nothing is sent before `send`.

        Returns {name: tensor}, which hold the arrays from then on until others are sent. A tensor is the same one again
        if neither its array nor those before it changed in size or type.
        """
        layout = [(name, array.shape, array.dtype) for name, array in arrays.items()]
        if layout != self._layout:
            self._lay_out(layout)
        for place, array in zip(self._places.values(), arrays.values()):
            place.packed[...] = array
        return {name: place.tensor for name, place in self._places.items()}

    def send(self):
        """Copy what was packed to the device, all at once."""
        tensors.write(self._memory, self._packed, self._placement)

    def read(self, *names):
        """What the memory of packed arrays holds now, as a list of numpy arrays; one copy, which waits for the device.

        All that is packed comes along: Paddle copies the whole allocation of a tensor in any case.
        """
        content, places = self._memory.numpy(), [self._places[name] for name in names]
        return [content[place.begin:place.begin + place.packed.nbytes].view(place.packed.dtype)
                .reshape(place.packed.shape) for place in places]

    def _lay_out(self, layout):
        """Make `_places` for arrays of these (name, shape, type)."""
        begins, size = [], 0
        for _, shape, dtype in layout:
            begins.append(size)
            size += -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        if size > len(self._packed):
            self._packed = np.zeros(max(PACKED_BYTES, 2 ** math.ceil(math.log2(size))), np.uint8)
            self._memory, self._places = import_paddle().empty([len(self._packed)], "uint8"), {}
        before, self._places, self._layout = self._places, {}, layout
        for (name, shape, dtype), begin in zip(layout, begins):
            packed = self._packed[begin:begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
            known = before.get(name)
            if known is not None and (known.begin, known.packed.shape, known.packed.dtype) == (begin, shape, dtype):
                self._places[name] = known
            else:
                tensor = tensors.view(self._memory, begin, packed, self._placement)
                self._places[name] = _Place(begin, packed, tensor)

    def keep(self, name, array):
        """Like `put` for what seldom changes and no graph writes: sent only if it differs from what is there."""
        tensor, content = self._find(name, array)
        if content != (given := array.tobytes()):
            self.put(name, array)
            self._held[self._key(name, array)] = (tensor, given)
        return tensor

    def memory(self, name, shape, dtype):
        """The memory called `name` as it is: `shape` of numpy type `dtype`, for a graph to write."""
        return self._find(name, np.empty(shape, dtype))[0]

    @staticmethod
    def _key(name, array):
        return name, array.shape, array.dtype.str

    def _find(self, name, array):
        key = self._key(name, array)
        if key not in self._held:
            self._held = {other: held for other, held in self._held.items() if other[0] != name}
            self._held[key] = (tensors.upload(array, self._placement), None)
        return self._held[key]
