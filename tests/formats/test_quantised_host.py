"""What the CUDA kernels make of stored bits, compiled for the host: of every byte, and of every half of a word of four
bits with every zero point. The instructions that only a GPU has are replaced by what they are defined to do."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ops import formats
from ops.formats.base import Codes

ROOT = Path(__file__).parents[2]
PROGRAM = """
#include <cstdio>
#include "ops/formats/registry.h"

void print(uint32_t pair) {
  const __half2 two = qwen::half_pair(pair);
  const float numbers[2] = {__half2float(__low2half(two)), __half2float(__high2half(two))};
  std::fwrite(numbers, 4, 2, stdout);
}

int main() {
  for (uint32_t i = 0; i < 256; ++i) {
    const uint32_t word = i | (255 - i) << 8 | (i ^ 0x5a) << 16 | (i ^ 0xc3) << 24;
    for (bool second : {false, true}) print(qwen::Int8Number::pair(word, second));
    for (bool second : {false, true}) print(qwen::Fp8Number::pair(word, second));
  }
  for (uint32_t i = 0; i < 65536; ++i) {
    for (int n = 0; n < 4; ++n) print(qwen::NibbleZero::none().pair(i | ~i << 16, n));
  }
  for (int zero = -128; zero < 128; ++zero) {
    const auto of = qwen::NibbleZero::of(qwen::half_pair(0x00010001u * __half_as_ushort(__float2half(zero))));
    for (uint32_t i = 0; i < 16; ++i) {
      for (int n = 0; n < 4; ++n) print(of.pair(i * 0x1111 | (15 - i) * 0x11110000u, n));
    }
  }
}
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc, which is not installed")
    folder = tmp_path_factory.mktemp("host")
    (folder / "main.cu").write_text(PROGRAM)
    subprocess.run(["nvcc", "-std=c++17", "-arch=sm_80", f"-I{ROOT}", folder / "main.cu", "-o", folder / "program"],
                   check=True)
    numbers = np.frombuffer(subprocess.run([folder / "program"], check=True, capture_output=True).stdout, "<f4")
    bytes_end, signed_end = 256 * 8, 256 * 8 + 65536 * 8
    return (numbers[:bytes_end].reshape(256, 2, 4), numbers[bytes_end:signed_end].reshape(65536, 4, 2),
            numbers[signed_end:].reshape(256, 16, 4, 2))


def test_every_byte(printed):
    i = np.arange(256)
    stored = np.stack([i, 255 - i, i ^ 0x5A, i ^ 0xC3], -1).astype(np.uint8)
    assert np.array_equal(printed[0][:, 0], stored - np.float32(128))
    numbers = formats.get("fp8").dequantise(Codes(stored, np.ones((256, 1), np.float32)))
    finite = stored & 0x7F != 0x7F
    assert np.array_equal(printed[0][:, 1][finite], numbers[finite]) and finite.sum() == 4 * 254


def test_four_bits(printed):
    i = np.arange(65536)[:, None]
    low, high = (halves >> np.arange(0, 16, 4) & 15 for halves in (i, ~i))
    assert np.array_equal(printed[1], np.stack([low, high], -1) - np.float32(8))


def test_four_bits_with_zero_points(printed):
    zeros, i = np.arange(-128, 128)[:, None], np.arange(16)
    low, high = i - zeros, 15 - i - zeros
    assert np.array_equal(printed[2], np.stack([low, high], -1)[:, :, None].repeat(4, 2).astype(np.float32))
