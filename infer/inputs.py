"""Device memory of the graphs' small inputs and state, kept from run to run."""

import numpy as np

ALIGNMENT = 16  # bytes; kernels read vectors


class DeviceInputs:
    """Tensors by name and shape. Their addresses stay, so that CUDA graphs recorded with them are found again."""

    def __init__(self, paddle, device):
        """`device` is "cpu" or "gpu", Paddle's default device."""
        self._paddle = paddle
        self._place = paddle.CUDAPlace(0) if device == "gpu" else paddle.CPUPlace()
        self._together = {}  # names -> (their shapes and types, groups and tensors of _lay_out)
        self._held = {}  # (name, shape, type) -> (tensor, the bytes in it or None)

    def put(self, name, array):
        """The memory called `name` with the content of `array`."""
        tensor, _ = self._find(name, array)
        tensor.get_tensor().set(array, self._place)
        return tensor

    def put_together(self, **arrays):
        """Like `put` for several small arrays: one copy for all of a type. Returns {name: tensor}."""
        names, layout = tuple(arrays), [(array.shape, array.dtype) for array in arrays.values()]
        held_layout, groups, tensors = self._together.get(names, (None, None, None))
        if layout != held_layout:
            groups, tensors = self._lay_out(arrays)
            self._together[names] = layout, groups, tensors
        for memory, packed, places in groups:
            for name, place in places.items():
                packed[place] = arrays[name].reshape(-1)
            memory.get_tensor().set(packed, self._place)
        return tensors

    def _lay_out(self, arrays):
        """([(memory, numpy array of its size, {name: slice})] by type, {name: tensor in such memory})."""
        groups, tensors = [], {}
        for dtype in {array.dtype for array in arrays.values()}:
            places, size = {}, 0
            for name, array in arrays.items():
                if array.dtype == dtype:
                    places[name] = slice(size, size + array.size)
                    size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT // dtype.itemsize
            packed = np.zeros(size, dtype)
            memory = self._paddle.to_tensor(packed, place=self._place)
            for name, place in places.items():
                tensors[name] = memory._slice(place.start, place.stop)
                tensors[name].get_tensor()._set_dims(arrays[name].shape)
            groups.append((memory, packed, places))
        return groups, tensors

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
            self._held[key] = (self._paddle.to_tensor(array, place=self._place), None)
        return self._held[key]
