"""Paddle Inference: a program loaded on a device, with the switches that it needs there."""

import functools

from ops.framework import import_paddle, own


class Predictor:
    """A loaded program.

    Attributes: inputs (name -> Paddle's handle), bound (name -> the tensor that the input is), run (launches the
    program once on what is bound; or on a list of tensors, one for each input).
    """

    def __init__(self, model, parameters, placement, threads=1, fuse=True, reserve_mib=64, reuse_memory=True):
        """Load a program, the bytes of one without parameters or the path of a file, with the file `parameters`.

        threads: of the CPU; fuse: let Paddle rewrite the program; reserve_mib: of the GPU's memory, at once;
        reuse_memory: tensors share memory that are not needed at the same time.
        """
        with own().config(model, parameters) as config:
            config.disable_glog_info()
            config.switch_ir_optim(fuse)
            if placement.on_gpu:
                config.enable_use_gpu(reserve_mib, placement.index)
            else:
                config.disable_gpu()
                config.disable_mkldnn()  # oneDNN prepares kernels for every new shape, and each decode step has one
                config.set_cpu_math_library_num_threads(threads)
            if reuse_memory:
                own().reuse_memory(config)
            self._predictor = import_paddle().inference.create_predictor(config)
        self.bound = {}
        self.run = self._predictor.run

    @functools.cached_property
    def inputs(self):
        return {name: self._predictor.get_input_handle(name) for name in self._predictor.get_input_names()}

    @functools.cached_property
    def _output(self):
        (name,) = self._predictor.get_output_names()
        return self._predictor.get_output_handle(name)

    def bind(self, name, tensor):
        """Let an input be a tensor's memory, as it is, and keep the tensor, which Paddle does not, until the next."""
        if self.bound.get(name) is not tensor:
            self.inputs[name].share_external_data(tensor)
            self.bound[name] = tensor

    def output(self):
        """The only output of the last run as a numpy array."""
        return self._output.copy_to_cpu()
