"""The Makefile: its targets, what depends on what, and one clear line for what cannot be done."""

import re
import shutil
from pathlib import Path

import pytest
from makes import run_make

ROOT = Path(__file__).parent.parent
TARGETS = ("setup ops check checkpoint convert quantize export-vision export-language export export-stock infer chat "
           "baseline bench sweep compare regress reproduce history report replay doctor test lint clean help").split()


def make(build, *arguments):
    """Run make with its own build folder and this interpreter instead of .venv."""
    return run_make(f"BUILD={build}", *arguments)


def steps(build, *arguments):
    """The Python modules that make would run, with their first argument where it tells them apart."""
    done = make(build, "-n", *arguments)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"-m (ops\.build|export\.\w+|export \w+|infer[.\w]*|bench \w+|pytest)", done.stdout)
    return [" ".join(step.split()) for step in found]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build folder after `make -j2 export` of the native graphs of the tiny preset."""
    build = tmp_path_factory.mktemp("build")
    done = make(build, "-j2", "export", "PRESET=tiny", "IMPL=native")
    assert done.returncode == 0, done.stderr
    return build


def test_help_lists_every_target(tmp_path):
    done = make(tmp_path, "help")
    listed = re.findall(r"^  ([a-z-]+) +\S", done.stdout, re.MULTILINE)
    assert listed == sorted(listed, key=listed.index) and set(TARGETS) == set(listed)


def test_every_phony_target_is_listed():
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    assert set(phony.replace("\\", "").split()) - {"FORCE", "stock-machine", "other-paddle"} == set(TARGETS)


def test_bench_runs_every_step_in_order(tmp_path):
    assert steps(tmp_path, "bench", "PRESET=tiny") == [
        "export.synthetic", "export.convert", "export vision", "export language", "ops.build", "export vision",
        "export language", "bench run"]


def test_bench_exports_only_what_its_arms_need(tmp_path):
    assert "ops.build" not in steps(tmp_path, "bench", "PRESET=tiny", "ARMS=torch-sdpa,paddle-native")
    assert steps(tmp_path, "bench", "PRESET=tiny", "ARMS=torch-sdpa") == ["export.synthetic", "bench run"]


def test_own_checkpoint_is_not_made(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    other = tmp_path / "other" / "mine"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    build = tmp_path / "build"
    assert steps(build, "export-vision", "IMPL=native", f"CKPT={folder}") == ["export.convert", "export vision"]
    texts = [make(build, "-n", "convert", f"CKPT={checkpoint}").stdout for checkpoint in (folder, other)]
    places = {re.search(r"export\.convert \S+ (\S+)", text).group(1) for text in texts}
    assert len(places) == 2 and all(re.fullmatch(r"mine-[0-9a-f]{8}", Path(place).name) for place in places)


def test_second_export_is_up_to_date(built):
    assert make(built, "-q", "export", "PRESET=tiny", "IMPL=native").returncode == 0
    assert steps(built, "export", "PRESET=tiny", "IMPL=native") == []


def test_other_dtype_rebuilds_the_graphs_alone(built):
    assert steps(built, "export", "PRESET=tiny", "IMPL=native", "DTYPE=float16") == ["export vision", "export language"]


def test_out_is_where_the_named_target_writes(tmp_path):
    done = make(tmp_path, "-n", "convert", "PRESET=tiny", "OUT=/elsewhere").stdout
    assert f"export.convert {tmp_path}/checkpoints/tiny /elsewhere" in done
    done = make(tmp_path, "-n", "export", "PRESET=tiny", "OUT=/elsewhere").stdout
    assert f"export vision {tmp_path}/converted/tiny /elsewhere" in done
    assert "--out /elsewhere" in make(tmp_path, "-n", "bench", "PRESET=tiny", "OUT=/elsewhere").stdout


def test_replay_runs_the_cases(tmp_path):
    done = make(tmp_path, "-n", "replay", "CKPT=tests/data/tiny/checkpoint", "CASES=tests/data/tiny", "OUT=/out")
    assert "-m infer.replay" in done.stdout and '--cases="$CASES" --out /out' in done.stdout


def test_export_stock_makes_the_packages_and_both_graphs(tmp_path):
    done = make(tmp_path, "-n", "export-stock", "PRESET=tiny", "DTYPE=float16").stdout
    modules = re.findall(r"-m (ops\.stock\.\w+|export\.\w+|export \w+) ", done)
    assert modules == ["export.synthetic", "export.convert", "ops.stock.build", "export.stock", "export vision"]
    assert f'PYTHONPATH="{tmp_path}/stock/auto/packages' in done and "--impl native" in done
    assert "converted/small /elsewhere --dtype" in make(tmp_path, "-n", "export-stock", "OUT=/elsewhere").stdout


def test_stock_is_refused_before_anything_is_made(stock_paddle, tmp_path):
    done = make(tmp_path, "infer", "IMPL=stock", "PRESET=tiny", "DEVICE=cpu")
    assert done.returncode != 0 and not (tmp_path / "checkpoints").exists()
    assert done.stderr.startswith("error: the stock graph needs an NVIDIA GPU")


def test_infer_writes_pictures_to_its_folder(tmp_path):
    assert f"--out {tmp_path}/answers" in make(tmp_path, "-n", "infer", "PRESET=tiny").stdout
    line = make(tmp_path, "-n", "infer", "PRESET=tiny", "OUT=/pictures", "FONT=/a.ttf").stdout
    assert '--out /pictures --font="$FONT"' in line and f"{tmp_path}/exported/tiny" in line


def test_check_takes_the_type_only_when_it_is_given(tmp_path):
    line, typed = (make(tmp_path, "-n", "check", "CKPT=/models/Qwen-VL", *more).stdout for more in
                   ([], ["DTYPE=bfloat16", "HASHES=1"]))
    assert f'-m export.check "$CKPT" --converted {tmp_path}/converted/' in line and "--dtype" not in line
    assert "--dtype bfloat16 --hashes" in typed


def test_variables_of_others_are_left_alone(tmp_path):
    """Those of the environment, and what a make around this one was given."""
    for environment in ({"PRESETS": "x"}, {"MAKELEVEL": "1", "MAKEFLAGS": " -- PRESETS=x"}):
        assert run_make("-n", "checkpoint", f"BUILD={tmp_path}", environment=environment).returncode == 0


def test_preview_without_an_environment(tmp_path):
    for part in ("scripts", "export"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy2(ROOT / "Makefile", tmp_path)
    venv = {f"{name}_PYTHON": ".venv/bin/python" for name in ("PADDLE", "TORCH")}
    done = run_make("-n", "bench", root=tmp_path, environment=venv)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("scripts/setup.sh\n") and "-m bench run" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "export", "scripts"]


def test_shells_are_asked_for_decisions_alone():
    """While the Makefile is read nothing runs but what scripts/variables.py and the search for an interpreter are."""
    asked = re.findall(r"\$\(shell (.*?)(?: \\)?$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [re.search("command -v|scripts/variables.py", command)[0] for command in asked] == [
        "command -v", "scripts/variables.py"]


def test_doctor_needs_no_environment(tmp_path):
    done = make(tmp_path, "doctor", "PADDLE_PYTHON=/no/python")
    assert done.returncode == 0 and "What will work" in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["bench", "PRESET=foo"], "use one of:.*small.*tiny"),
    (["export", "DTYPE=int4"], "use one of: float32 float16 bfloat16"),
    (["bench", "DEVICE=tpu"], "use one of: auto cpu gpu"),
    (["export", "IMPL=magic"], "use one of: fused native"),
    (["export", "IMPL=stock"], "export-stock makes its graphs"),
    (["export", "PRESET=tiny small"], "use one of"),
    (["export", "CKPT=/no/such/folder"], "config.json"),
    (["export", "BUILD=/a b"], "may hold letters"),
    (["clean", "BUILD="], "is empty"),
    (["replay", "CKPT=tests/data/tiny/checkpoint"], "CASES= is missing"),
    (["check"], "CKPT= is missing"),
    (["infer", "IMPL=stock", "OUT=/x"], "draws no boxes"),
    (["export", "bench", "OUT=/x"], "exactly one"),
    (["bench", "PRESETS=tiny"], "PRESETS= is no variable of this Makefile, the nearest is PRESET=:"),
    (["clean", "BULID=/x"], "nearest is BUILD="),
    (["export", "PADDLE_PYTHON=/no/python"], "cannot be run"),
])
def test_bad_values_get_one_line(tmp_path, arguments, words):
    done = make(tmp_path, *arguments)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and re.search(words, done.stderr)


def test_quantize_writes_a_folder_for_each_format(tmp_path):
    done = make(tmp_path, "-n", "quantize", "PRESET=small", "WEIGHTS=int4").stdout
    assert re.search(r"-m export.quantise \S*checkpoints/small \S*quantised/small-int4 --weights \"\$WEIGHTS\"", done)
    assert "quantised/small-int8" in make(tmp_path, "-n", "quantize", "PRESET=small", "WEIGHTS=int8").stdout
    assert "export.quantise" in make(tmp_path, "-n", "quantize", "WEIGHTS=int4", "OUT=/elsewhere").stdout
    missing = make(tmp_path, "-n", "quantize", "PRESET=small")
    assert "WEIGHTS= is missing: quantize needs the format to round to" in missing.stderr
