"""The decode kernel's machine code stays small: a step runs nearly all of it once a layer, and beyond the instruction
caches every phase waits for its code (docs/lab/decode.md: 258 KB cost 2 % of a step against 115 KB)."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ops import formats

ROOT = Path(__file__).parents[1]
MOST = 125 * 1024  # bytes of one kernel; when last looked at 102 to 110 KiB, and to 124.1 with weights in 4 bits
SECTION = struct.Struct("<IIQQQQIIQQ")  # ELF64: name, type, flags, address, offset, size, …


def section_sizes(elf):
    """{name: bytes} of an ELF64 file's sections."""
    (begin,), (size, count, names) = struct.unpack_from("<Q", elf, 0x28), struct.unpack_from("<HHH", elf, 0x3a)
    headers = [SECTION.unpack_from(elf, begin + i * size) for i in range(count)]
    texts = headers[names][4]
    return {elf[texts + header[0]:elf.index(b"\0", texts + header[0])].decode(): header[5] for header in headers}


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, which is not installed")
def test_step_kernels_fit_the_instruction_caches(tmp_path):
    made = tmp_path / "decode.cubin"
    done = subprocess.run(["nvcc", "-std=c++17", "-O3", "-gencode", "arch=compute_90,code=sm_90", "-cubin",
                           f"-I{ROOT}", ROOT / "ops/kernels/decode/step.cu", "-o", made],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = {name: size for name, size in section_sizes(made.read_bytes()).items() if name.startswith(".text.")}
    assert len(kernels) == 2 * (len(formats.NAMES) - 1)  # float32 is the CPU's
    assert all("step_kernel" in name for name in kernels)
    assert max(kernels.values()) <= MOST, kernels
