"""The CPU operators' unpacking of a quantised format, as a program of a test's own."""

import subprocess

import numpy as np

from ops import formats
from tests import cpp

PROGRAM = """
#include <cstdio>
#include <vector>
#include "ops/formats/registry.h"

int main(int, char** arguments) {
  int64_t rows, columns, first, count;
  std::sscanf(arguments[2], "%ld,%ld,%ld,%ld", &rows, &columns, &first, &count);
  qwen::with_format(qwen::format_number(arguments[1]), [&](auto traits) {
    using Format = decltype(traits);
    if constexpr (Format::kOnCpu && !Format::kPlain) {
      std::vector<char> matrix(rows * Format::row_bytes(columns));
      std::vector<float> to(count * columns);
      if (std::fread(matrix.data(), 1, matrix.size(), stdin) != matrix.size()) return;
      Format::unpack(matrix.data(), nullptr, first, count, columns, to.data());
      std::fwrite(to.data(), 4, to.size(), stdout);
    }
  });
}
"""


def unpacked(folder, name, words, columns, first, count):
    """float32 [count, columns]: rows of a packed matrix [rows, words] from row `first` on."""
    program = folder / "program"
    if not program.exists():
        cpp.program(folder, PROGRAM)
    made = subprocess.run([program, name, f"{len(words)},{columns},{first},{count}"], input=words.tobytes(),
                          capture_output=True, check=True).stdout
    assert words.nbytes == formats.get(name).bytes([len(words), columns]) and len(made) == 4 * count * columns
    return np.frombuffer(made, "<f4").reshape(count, columns)
