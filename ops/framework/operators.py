"""A compiled library's operators: registered with Paddle, run on tensors, and put into programs."""

from ops.framework import import_paddle, own

OPTIONAL = "@OPTIONAL"  # ends the name of an input that may be absent, and of the output that writes it, in a program


def register(library):
    """Register the operators of a library, once per process, and return their names.

    Raises OSError, RuntimeError or ValueError where Paddle cannot.
    """
    return import_paddle().utils.cpp_extension.load_op_meta_info_and_register_op(str(library))


def wrappers(library):
    """Python source of a function for each operator of a library, as Paddle's own build of extensions writes it."""
    names = register(library)
    return "\n".join(map(import_paddle().utils.cpp_extension.extension_utils._custom_api_content, names))


def call(operator, inputs, attributes, outputs, state=()):
    """Run a registered operator on tensors, or add it to the program that is being built.

    inputs: name -> tensor, None for an absent one, whose name ends in OPTIONAL; attributes: name -> value; both in the
    operator's order. outputs: name -> dtype of the outputs that are new tensors. state: the inputs that are written in
    place, which the library declares as outputs `<input>_out`. Returns {output: tensor} of the new ones.
    """
    paddle = import_paddle()
    if paddle.in_dynamic_mode():
        results = paddle.base.core.eager._run_custom_op(operator, *inputs.values(), *attributes.values())
        return dict(zip(outputs, results))
    return own().append(operator, inputs, attributes, outputs, state)


def overwrite_rows(state, index, rows):
    """state.reshape([-1, rows.shape[-1]])[index] = rows, in place, also in a program, where nothing but `rows` is
    copied."""
    paddle = import_paddle()
    if paddle.in_dynamic_mode():
        flat = paddle.scatter(state.reshape([-1, rows.shape[-1]]), index, rows)
        paddle.assign(flat.reshape(state.shape), output=state)
    else:
        own().overwrite_rows(state, index, rows)
