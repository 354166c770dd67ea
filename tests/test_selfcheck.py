"""The device's self-check: passes on the CPU, and names what is wrong when a result is planted."""

import pytest

from core.errors import UserError
from core.placement import CPU
from ops import formats
from tests.operators import functional, paddle

from ops import selfcheck  # isort: skip  (imports Paddle, which tests.operators prepares)


def test_the_cpu_is_right():
    assert max(error for _, error in selfcheck.operator_errors(CPU, "float32")) < 1e-4
    assert max(error for _, error in selfcheck.paddle_errors(CPU)) == 0


def test_every_operator_is_checked():
    names = [name for name, _ in selfcheck.operator_errors(CPU, "float32")]
    assert {name.split(" ")[0] for name in names} == {"vision_encoder", "resampler", "embedding", "decoder", "lm_head"}
    for batch in (1, 8):
        assert {f"decoder (decode, batch {batch})", f"lm_head (sampled, batch {batch})"} <= set(names)


@pytest.mark.parametrize("format", [format.name for format in formats.quantised()])
def test_formats_that_round_are_checked_where_they_are_named(format):
    """Against the numbers that they hold."""
    errors = {name: error for name, error in selfcheck.operator_errors(CPU, "float32", [format])
              if name.endswith(f"with weights in {format}")}
    assert len(errors) == 12 and max(errors.values()) < 1e-4


@pytest.mark.parametrize("operator", ["vision_encoder", "resampler", "embedding", "decoder", "lm_head"])
@pytest.mark.parametrize("fault", ["scaled", "nan"])
def test_a_wrong_operator_is_named(monkeypatch, operator, fault):
    right = getattr(functional, operator)

    def wrong(*args, impl, **options):
        result = right(*args, impl=impl, **options)
        if impl != "fused":
            return result
        factor = 1.02 if fault == "scaled" else float("nan")
        if result is not None:
            return result * factor
        paddle.assign(args[-1] * factor, output=args[-1])  # the resampler's result is state, its last argument

    monkeypatch.setattr(functional, operator, wrong)
    with pytest.raises(UserError, match=f"the operator {operator}.* is wrong on this cpu in float32"):
        selfcheck.check_operators(CPU, "float32")


def test_a_wrong_paddle_kernel_is_named(monkeypatch):
    softmax = selfcheck.F.softmax
    calls = []

    def wrong(x, axis):
        calls.append(x)
        return softmax(x, axis) + (len(calls) == 1)

    monkeypatch.setattr(selfcheck.F, "softmax", wrong)
    with pytest.raises(UserError, match="Paddle's own softmax give wrong results on this cpu"):
        selfcheck.check_paddle(CPU)
