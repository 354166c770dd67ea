"""A kernel that gave up a wait is one clear line, once; here told by a library that stands in for the GPU's."""

import subprocess

import pytest

from core.errors import UserError
from ops import library

STAND_IN = """
static int reports = 1;
int qwen_vl_gave_up(void) { return reports-- > 0 ? 10005 : 0; }
const char* qwen_vl_status_text(int status) {
  return status == 10005 ? "block 7, thread 300 waited without end for all blocks of the grid" : "success";
}
"""


@pytest.fixture
def use(tmp_path, monkeypatch):
    """use(source): a library made of C source is the operator library."""
    def use(source):
        (tmp_path / "kernels.c").write_text(source)
        made = tmp_path / "libkernels.so"
        subprocess.run(["gcc", "-shared", "-fPIC", tmp_path / "kernels.c", "-o", made], check=True)
        monkeypatch.setenv("QWEN_VL_OPS", str(made))
        library.kernels.cache_clear()
    yield use
    library.kernels.cache_clear()


def test_a_wait_that_was_given_up_is_one_line_and_told_once(use):
    use(STAND_IN)
    with pytest.raises(UserError, match="block 7, thread 300 waited without end for all blocks of the grid"):
        library.check_waits()
    library.check_waits()


def test_a_library_without_kernels_has_no_waits(use):
    use("int nothing;")
    library.check_waits()
