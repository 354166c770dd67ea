"""Matrix products of weights in a packed format: operands, and what they give in torch."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from tests.gpu.prefill_library import assert_as_good
from tests.gpu.prefill_reference import held_weight

SHAPES, SHAPES_OF_SILU = range(9), (0, 2, 4, 5, 6)  # of ops/kernels/products/packed_tiles.cuh


def normal(*shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).half()


class Product:
    """Operands of one size, and what the product of them is in fp32 and in torch's fp16."""

    def __init__(self, kernels, format, tokens, inner, outer):
        self.kernels, self.tokens, self.outer = kernels, tokens, outer
        self.weight, self.x = held_weight(format, normal(outer, inner, scale=inner ** -0.5)), normal(tokens, inner)
        self.bias, self.addend = normal(outer), normal(tokens, outer)
        self.values = dict(weight=kernels.pack(self.weight, format), x=self.x, tokens=tokens, **{"in": inner},
                           out=outer, x_stride=inner, batch=1, dtype=0, format=format)

    def expected(self, bias=False, addend=False, silu=False):
        results = []
        for kind in (torch.float16, torch.float32):
            y = F.linear(self.x.to(kind), self.weight.to(kind), self.bias.to(kind) if bias else None)
            if silu:
                gate, up = y.chunk(2, -1)
                y = F.silu(gate) * up
            results.append(y + self.addend.to(kind) if addend else y)
        return results

    def check(self, run, bias=False, addend=False, silu=False):
        """Call `run` with the arguments and an output, beyond whose rows nothing may be written."""
        width = self.outer // 2 if silu else self.outer
        y = torch.full((self.tokens + 3, width), math.nan, device="cuda", dtype=torch.float16)
        arguments = dict(self.values, y=y, activation=2 if silu else 0)
        if bias:
            arguments["bias"] = self.bias
        if addend:
            y[:self.tokens] = self.addend
            arguments["addend"] = y
        run(**arguments)
        assert_as_good(y[:self.tokens], *self.expected(bias, addend, silu))
        assert torch.isnan(y[self.tokens:]).all()

    def check_all(self):
        """Every kind of product that production asks for, in the shapes that its tuning chooses."""
        self.check(self.kernels.gemm)
        self.check(self.kernels.gemm, bias=True)
        self.check(self.kernels.gemm, addend=True)
        if self.outer % 16 == 0:
            self.check(partial(self.kernels.gemm, wide=torch.empty_like(self.addend)), silu=True)
        logits = torch.full((self.tokens, self.outer), math.nan, device="cuda")
        self.kernels.gemm(y=logits, float_output=1, **self.values)
        assert_as_good(logits, *self.expected())

    def check_shapes(self, tile_shape):
        """The same in every tile shape that there is; tile_shape: the fixture of tests.gpu.prefill_fixtures."""
        for shape in SHAPES:
            self.check(partial(tile_shape, shape), bias=True)
            self.check(partial(tile_shape, shape), addend=True)
        if self.outer % 16 == 0:
            for shape in SHAPES_OF_SILU:
                self.check(partial(tile_shape, shape), silu=True)
