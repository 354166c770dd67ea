"""Fixtures of the tests of kernels beyond the decode step, which name this module in `pytest_plugins`."""

import os

import pytest
import torch

from tests.gpu.prefill_library import Library


@pytest.fixture(scope="module")
def kernels():
    library = Library()
    yield library
    library.close()


@pytest.fixture(scope="module")
def tile_shape(kernels):
    """Library.tile_shape, where these kernels are for this card and nothing says that they were left out."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a card of compute capability 9.0")
    if "90a" not in os.environ.get("CUDA_ARCHS", "90a"):
        pytest.skip("CUDA_ARCHS says that the kernels were built without sm_90a")
    return kernels.tile_shape
