"""What errors call a value: what was typed, a variable of make or an option."""

import json

import pytest
from makes import recorder, run_make

from core.errors import ArgumentParser, UserError, as_typed, run_cli

NAMES = "ROUNDS NEW_TOKENS BATCH"


@pytest.mark.parametrize("message, shown", [
    ("--rounds: invalid positive value: 'x'", "ROUNDS=: invalid positive value: 'x'"),
    ("--max-new-tokens: invalid int value: 'abc'", "NEW_TOKENS=: invalid int value: 'abc'"),
    ("shorten the prompt or lower --new-tokens", "shorten the prompt or lower NEW_TOKENS="),
    ("no --exported-fused given", "no --exported-fused given")])
def test_options_are_called_by_the_variables_of_make(monkeypatch, message, shown):
    monkeypatch.delenv("QWEN_VL_VARIABLES", raising=False)
    assert as_typed(message) == message
    monkeypatch.setenv("QWEN_VL_VARIABLES", NAMES)
    assert as_typed(message) == shown


def test_both_kinds_of_errors_do_so(monkeypatch, capsys):
    monkeypatch.setenv("QWEN_VL_VARIABLES", NAMES)
    monkeypatch.setenv("QWEN_VL_INHERITED", "ROUNDS")
    parser = ArgumentParser()
    parser.add_argument("--rounds", type=int)
    with pytest.raises(SystemExit):
        parser.parse_args(["--rounds", "x"])

    def main():
        raise UserError("--batch 9: too many")
    with pytest.raises(SystemExit):
        run_cli(main)
    assert capsys.readouterr().err.splitlines() == [
        "error: ROUNDS=: invalid int value: 'x' (ROUNDS= came from the environment)", "error: BATCH=9: too many"]


def test_make_tells_its_programs(tmp_path):
    python, record = recorder(tmp_path, "bench")
    run_make("history", environment={"PADDLE_PYTHON": str(python), "TORCH_PYTHON": str(python)})
    _, environment = json.loads(record.read_text())
    assert {"NEW_TOKENS", "ROUNDS"} <= set(environment["QWEN_VL_VARIABLES"].split())
