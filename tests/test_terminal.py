"""Standard streams: any encoding, closed ones, readers that go away, full disks; the statuses that follow."""

import ast
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BEGIN = "import os, subprocess, sys\nfrom core.errors import *\nfrom core.terminal import *\ndef main():\n "
END = "\nrun_cli(main)\n"
MUCH = "print('x' * 100_000, flush=True); print('y', flush=True); "


def run(body, streams="", **options):
    """A program with this body of main(), its streams redirected as a shell does, both outputs caught otherwise."""
    return subprocess.run(["bash", "-c", f'"$0" -c "$1" {streams}', sys.executable, BEGIN + body + END], cwd=ROOT,
                          **{"capture_output": True, "text": True, **options})


def left(body, pipe="stdout", **options):
    """(status, what the other stream holds) of a program after the reader of its `pipe` has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    other = {"stdout": "stderr", "stderr": "stdout"}[pipe]
    try:
        done = subprocess.run([sys.executable, "-c", BEGIN + body + END], cwd=ROOT, text=True,
                              **{pipe: writing, other: subprocess.PIPE, **options})
    finally:
        os.close(writing)
    return done.returncode, getattr(done, other)


@pytest.mark.parametrize("environment, shown", [
    ({"PYTHONIOENCODING": "ascii"}, r"\xe7\u4e2d\udce9"), ({"PYTHONIOENCODING": "latin-1:strict"}, "ç\\u4e2d\\udce9"),
    ({"PYTHONIOENCODING": "gbk"}, r"\xe7中\udce9"), ({"LC_ALL": "C"}, r"ç中\udce9"),
    ({"LC_ALL": "C.utf8"}, r"ç中\udce9"),
    ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, r"\xe7\u4e2d\udce9")])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_an_encoding_lacks_is_escaped(environment, shown, stream):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | environment
    done = run(f"print('\\xe7\\u4e2d\\udce9', file=sys.{stream})", env=environment, text=False)
    encoding = environment.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    assert done.returncode == 0 and getattr(done, stream).decode(encoding) == shown + "\n"


@pytest.mark.parametrize("pipe", ["stdout", "stderr"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_goes_on_without_its_reader_and_keeps_its_status(tmp_path, pipe, unbuffered):
    body = f"print('x', file=sys.{pipe}, flush=True); open({str(tmp_path / 'made')!r}, 'w').write('whole'); return 3"
    assert left(body, pipe, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) == (3, "")
    assert (tmp_path / "made").read_text() == "whole"


def test_a_line_that_waits_in_the_buffer_is_no_error():
    assert left("print('x'); return 0") == (0, "")


def test_what_only_prints_ends_quietly():
    assert left(MUCH + "require_reader(); print('went on', file=sys.stderr)") == (0, "")


def test_who_has_a_reader_goes_on():
    assert run("print('x', flush=True); require_reader(); return 4").returncode == 4


def test_errors_keep_their_status_without_a_reader():
    assert left("raise UserError('no')", "stderr") == (1, "")


def test_child_processes_do_not_fail_for_want_of_a_reader():
    assert left(MUCH + "return subprocess.run(['bash', '-c', 'echo x && exit 5']).returncode") == (5, "")


def test_a_socket_whose_peer_has_gone():
    ours, theirs = socket.socketpair()
    ours.close()
    assert left(MUCH + "return 3", stdout=theirs) == (3, "")
    theirs.close()


def test_a_terminal_that_was_closed():
    master, terminal = pty.openpty()
    os.close(master)
    assert left(MUCH + "return 3", stdout=terminal) == (3, "")
    os.close(terminal)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_like_dev_null(tmp_path, streams):
    path = str(tmp_path / "file")
    body = (f"f = open({path!r}, 'w'); print('out'); print('err', file=sys.stderr); os.write(1, b'raw')\n"
            " subprocess.run(['echo', 'of a child'], check=True); f.write(repr(sys.stdin.read())); f.close(); return 3")
    done = run(body, streams, stdin=subprocess.DEVNULL)
    assert done.returncode == 3 and (tmp_path / "file").read_text() == "''"


def test_a_full_disk_is_one_line():
    done = run("print('x')", "> /dev/full")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: No space left on device (standard output or error)")


@pytest.mark.parametrize("place, reason", [("'/dev/null/x'", "Not a directory"), ("'x' * 300", "File name too long")])
def test_paths_that_cannot_be_are_one_line(place, reason):
    done = run(f"os.makedirs({place})")
    assert done.returncode == 1 and done.stderr.startswith(f"error: {reason} (") and done.stderr.count("\n") == 1
    assert done.stderr.endswith(": give another path\n")


def test_an_interrupt_while_a_program_imports_is_one_word(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run([sys.executable, "-m", "export", "--help"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stderr == "interrupted\n" and done.returncode != 0


def test_bytes_of_the_input_that_are_no_utf_8_are_kept():
    done = run("sys.stdout.buffer.write(os.fsencode(sys.stdin.readline()))", input=b"caf\xe9\n", text=False)
    assert done.stdout == b"caf\xe9\n"


def test_every_command_runs_on_prepared_streams():
    folders = ("ops", "export", "infer", "bench", "scripts")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    ends = {path: [ast.unparse(node.body) for node in ast.parse(path.read_text(encoding="utf-8")).body
                   if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)] for path in files}
    commands = {path.relative_to(ROOT).as_posix(): end for path, end in ends.items() if end}
    # read by their parents, nobody else
    for name in ("bench/worker.py", "scripts/variables.py", "scripts/wheels.py", "scripts/tests_summary.py"):
        commands.pop(name)
    assert len(commands) > 10 and set(map(tuple, commands.values())) == {("run_cli(main)",)}
