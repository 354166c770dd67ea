"""Device memory of the graphs' small inputs and state, kept from run to run."""

import numpy as np


class DeviceInputs:
    """Tensors by name and shape. Their addresses stay, so that CUDA graphs recorded with them are found again."""

    def __init__(self, paddle, device):
        """`device` is "cpu" or "gpu", Paddle's default device."""
        self._paddle = paddle
        self._place = paddle.CUDAPlace(0) if device == "gpu" else paddle.CPUPlace()
        self._held = {}  # (name, shape, type) -> (tensor, the array in it or None)

    def put(self, name, array):
        """The memory called `name` with the content of `array`."""
        tensor, _ = self._find(name, array)
        tensor.get_tensor().set(array, self._place)
        return tensor

    def keep(self, name, array):
        """Like `put` for what seldom changes and no graph writes: sent only if it differs from what is there."""
        tensor, content = self._find(name, array)
        if content is None or not np.array_equal(content, array):
            self.put(name, array)
            self._held[self._key(name, array)] = (tensor, array.copy())
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
