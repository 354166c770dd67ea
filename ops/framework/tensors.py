"""Memory of tensors. None of these runs a kernel of Paddle's: the GPU wheel has wrong ones for newer cards."""

from ops.framework import import_paddle, own
from ops.framework.devices import place


def use_dtype(dtype):
    """What is made without a type is made in `dtype` from now on: layers' parameters, and much inside paddlenlp."""
    import_paddle().set_default_dtype(dtype)


def upload(array, placement, dtype=None):
    """A numpy array as a tensor there, uint16 as bfloat16; cast to `dtype` on the CPU before it is copied."""
    paddle = import_paddle()
    if dtype is None:
        return paddle.to_tensor(array, place=place(placement))
    tensor = paddle.to_tensor(array, place=paddle.CPUPlace()).astype(dtype)
    return tensor._copy_to(place(placement), True) if placement.on_gpu else tensor


def write(tensor, array, placement):
    """Copy a numpy array to a tensor's memory, whose address stays; on CUDA's default stream, and done on return."""
    tensor.get_tensor().set(array, place(placement))


def rows(tensor, first, end):
    """Rows of a tensor over the same memory, which indexing would copy."""
    return tensor._slice(first, end)


def view(memory, begin, like, placement):
    """The memory of a tensor uint8 [bytes], from byte `begin` on, as a tensor of a numpy array's shape and type."""
    tensor = rows(memory, begin, begin + like.nbytes)
    tensor.get_tensor()._set_dims(like.shape)
    # Sets the type and keeps the memory, which has the size asked for.
    kind = getattr(import_paddle().base.core.VarDesc.VarType, like.dtype.name.upper().replace("FLOAT", "FP"))
    tensor.get_tensor()._mutable_data(place(placement), kind)
    return tensor


def sizes(tensor):
    """The sizes of a tensor as a tensor i32: in a program those that it has whenever that runs."""
    return own().sizes(tensor)
