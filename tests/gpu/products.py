"""Matrix products of weights in a packed format: operands, and what they give in torch."""

import math

import torch
import torch.nn.functional as F

from tests.gpu.prefill_library import assert_as_good
from tests.gpu.prefill_reference import held_weight


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
