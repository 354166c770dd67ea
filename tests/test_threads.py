"""OMP_NUM_THREADS as OpenMP takes it."""

import pytest

from core.errors import UserError
from infer.graph import cpu_threads


@pytest.mark.parametrize("value, threads", [("3", 3), (" 3 ", 3), ("4,2", 4), ("4, 2,1", 4), ("08", 8)])
def test_first_level_counts(monkeypatch, value, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cpu_threads() == threads


@pytest.mark.parametrize("value", [None, "", " "])
def test_unset(monkeypatch, value):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cpu_threads() >= 1


@pytest.mark.parametrize("value", ["0", "-1", "four", "4,", ",4", "4,0", "4;2", "9999999", "٤"])
def test_what_is_no_number_of_threads(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(UserError, match="is no number of threads from 1 to 9999: unset it"):
        cpu_threads()
