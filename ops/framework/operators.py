"""A compiled library's operators: registered with Paddle, run on tensors, and put into programs.

3.3.1: the same source builds and runs, on tensors with and without FLAGS_enable_pir_api=0; in programs with it alone.
"""

from ops.framework import import_paddle

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
    helper = paddle.base.layer_helper.LayerHelper(operator)
    created = {name: helper.create_variable_for_type_inference(dtype) for name, dtype in outputs.items()}
    inputs = {name: tensor for name, tensor in inputs.items() if tensor is not None}
    written = {_written_by(name): inputs[name] for name in state if name in inputs}
    helper.append_op(type=operator, inputs=inputs, outputs={**created, **written}, attrs=attributes)
    return created


def _written_by(name):
    """The output that writes an input in place."""
    return f"{name.removesuffix(OPTIONAL)}_out{OPTIONAL if name.endswith(OPTIONAL) else ''}"


def overwrite_rows(state, index, rows):
    """state.reshape([-1, rows.shape[-1]])[index] = rows, in place, also in a program.

    There an operator whose output is its input works in place, and nothing but `rows` is copied; Paddle's functions
    give every output a variable of its own.
    """
    paddle = import_paddle()
    if paddle.in_dynamic_mode():
        flat = paddle.scatter(state.reshape([-1, rows.shape[-1]]), index, rows)
        paddle.assign(flat.reshape(state.shape), output=state)
        return
    block = paddle.static.default_main_program().current_block()

    def append(op, inputs, attributes):
        outputs = {"Out": state}
        if op == "reshape2":
            outputs["XShape"] = block.create_var(name=paddle.utils.unique_name.generate("xshape"), dtype=state.dtype)
        block.append_op(type=op, inputs=inputs, outputs=outputs, attrs=attributes)

    declared, shape = list(state.shape), paddle.shape(state)
    append("reshape2", {"X": state}, {"shape": [-1, rows.shape[-1]]})
    append("scatter", {"X": state, "Ids": index, "Updates": rows}, {"overwrite": True})
    append("reshape2", {"X": state, "Shape": shape}, {"shape": [-1]})
    state.desc.set_shape(declared)
