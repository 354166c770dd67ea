"""`make check`: the published folder in every format passes, and each fault of a download is named."""

import hashlib
import json
import math
import os
import shlex
import subprocess
from collections import namedtuple

import pytest
from checkpoint_files import one_line_error, run
from published_checkpoint import CONFIG, write_published, write_safetensors

from core.config import ModelConfig
from core.ranks import read_ranks
from export.check import __main__ as module
from export.check import download, files, needs
from export.check.__main__ import check
from ops.weights import STAGES, parameter_shapes

BIN, SAFE = "pytorch_model-{:05}-of-00010.bin", "model-{:05}-of-00010.safetensors"
LARGE = 1 << 50
Usage = namedtuple("Usage", "free")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """{kind: folder} of sound checkpoints that no test may change."""
    root = tmp_path_factory.mktemp("published")
    return {kind: write_published(root / kind, kind) for kind in ("bin", "safetensors", "pdparams")}


@pytest.fixture(scope="module")
def ranks(published):
    """Reads vocabularies; the sound one, which takes long, only once."""
    path = published["bin"] / "qwen.tiktoken"
    sound, content = read_ranks(path), path.read_bytes()
    return lambda path, start: sound if path.exists() and path.read_bytes() == content else read_ranks(path, start)


@pytest.fixture(autouse=True)
def machine(monkeypatch, ranks):
    """A machine with room for everything and without a GPU."""
    monkeypatch.setattr(files, "read_ranks", ranks)
    monkeypatch.setattr(module, "memory", lambda: (LARGE, LARGE))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(LARGE))
    monkeypatch.setattr(module, "GPU", module.Path("/no/gpu"))


@pytest.fixture
def folder(published, tmp_path):
    """Make a folder of links to a sound checkpoint's files; what a test writes there takes a link's place."""
    def make(kind):
        made = tmp_path / f"copy-{kind}"
        made.mkdir()
        for path in published[kind].iterdir():
            (made / path.name).symlink_to(path)
        return made
    return make


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def lines(folder, kind, **options):
    found = check(folder, folder / "converted", folder / "exported", **options)
    assert all("\n" not in text and "\x1b" not in text for _, text in found.lines)
    return [text for its_kind, text in found.lines if its_kind == kind]


def problem(folder, *words):
    """The only problem, which must hold `words`."""
    (text,) = lines(folder, "problem")
    assert all(word in text for word in words), text
    assert lines(folder, "next") == [f"mend the above, then: make check CKPT={folder}"]


@pytest.mark.parametrize("kind", ["bin", "safetensors", "pdparams"])
def test_a_sound_checkpoint(published, kind):
    folder = published[kind]
    assert lines(folder, "problem") == []
    ok = "; ".join(lines(folder, "ok"))
    count = "1 file" if kind == "pdparams" else "10 files"
    for words in ("the published 7B geometry, chat_format chatml", f"{count} complete", "19.31 GB",
                  "853 with the names", "9.66 billion values, bfloat16", "151643 ranks", "conversion writes 19.3 GB",
                  "export 38.6 GB in float32"):
        assert words in ok
    assert lines(folder, "next") == [f"make infer CKPT={folder} DTYPE=float32 IMAGE=photo.jpg",
                                     f"make bench CKPT={folder} DTYPE=float32"]


def test_commands_to_go_on_with_can_be_typed(folder, tmp_path):
    odd = folder("safetensors").rename(tmp_path / "R&D $(touch x)")
    for command in lines(odd, "next"):
        assert f"CKPT={odd}" in shlex.split(command)


def test_status_and_output_of_the_command(published, folder):
    good = run("-m", "export.check", published["bin"], "--converted", "/nowhere/c", "--exported", "/nowhere/e")
    assert "next " in good.stdout and good.stderr == ""
    broken = folder("bin")
    (broken / "config.json").unlink()
    bad = run("-m", "export.check", broken, "--converted", "/nowhere/c", "--exported", "/nowhere/e")
    assert bad.returncode == 1 and "problem  no config.json" in bad.stdout and bad.stderr == ""
    none = run("-m", "export.check", broken / "none", "--converted", "/nowhere/c", "--exported", "/nowhere/e")
    assert "no checkpoint folder" in one_line_error(none)


@pytest.mark.parametrize("kind, name", [("bin", BIN), ("safetensors", SAFE)])
def test_missing_and_truncated_shards_are_told_together(folder, kind, name):
    broken = folder(kind)
    (broken / name.format(3)).unlink()
    (broken / name.format(7)).unlink()
    source = (broken / name.format(5)).resolve()
    (broken / name.format(5)).unlink()
    with open(source, "rb") as whole, open(broken / name.format(5), "wb") as part:
        part.write(whole.read(1 << 20))
        part.truncate(source.stat().st_size - 1)
    missing, truncated = lines(broken, "problem")
    assert missing.startswith("2 of 10 files of weights missing") and name.format(3) in missing
    assert name.format(5) in truncated and ("truncated" in truncated) and truncated.endswith("again")


def test_a_link_to_nowhere_is_a_missing_file(folder):
    broken = folder("safetensors")
    (broken / SAFE.format(1)).unlink()
    (broken / SAFE.format(1)).symlink_to(broken / "gone")
    problem(broken, "1 of 10 files of weights missing")


@pytest.mark.parametrize("change, words", [
    (lambda part: part.pop("transformer.ln_f.weight", None), ["lacks 1 tensor", "transformer.ln_f.weight"]),
    (lambda part: part.update({name: ("I8", shape) for name, (_, shape) in part.items() if name == "lm_head.weight"}),
     ["1 neither float32, float16 nor bfloat16", "lm_head.weight int8"]),
    (lambda part: part.update({name: (kind, (4096, 11009)) for name, (kind, _) in part.items()
                               if name == "transformer.h.3.mlp.c_proj.weight"}),
     ["1 of another shape", "transformer.h.3.mlp.c_proj.weight [4096, 11009] instead of [4096, 11008]"]),
])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_faults_inside_a_shard(tmp_path, kind, change, words):
    problem(write_published(tmp_path / "c", kind, change), *words)


def index_without(folder, kind, change):
    path = folder / {"bin": "pytorch_model.bin.index.json", "safetensors": "model.safetensors.index.json"}[kind]
    index = json.loads(path.read_text())
    change(index["weight_map"])
    replace(path, json.dumps(index).encode())


def test_a_key_that_no_file_has(folder):
    broken = folder("bin")
    index_without(broken, "bin", lambda places: places.pop("lm_head.weight"))
    problem(broken, "1 missing: lm_head.weight")


def test_a_key_too_many(folder):
    broken = folder("safetensors")
    write_safetensors(broken / "more.safetensors", {"transformer.h.32.ln_1.weight": ("BF16", (4096,))})
    index_without(broken, "safetensors", lambda places: places.update(
        {"transformer.h.32.ln_1.weight": "more.safetensors"}))
    problem(broken, "1 unexpected: transformer.h.32.ln_1.weight")


def test_damaged_index(folder):
    broken = folder("bin")
    replace(broken / "pytorch_model.bin.index.json", b"[")
    problem(broken, "pytorch_model.bin.index.json is not valid JSON")


def test_no_weights(folder):
    broken = folder("pdparams")
    (broken / "model_state.pdparams").unlink()
    problem(broken, "no weights", "download them")


def test_a_pickle_that_is_no_checkpoint(folder):
    broken = folder("pdparams")
    replace(broken / "model_state.pdparams", b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    problem(broken, "os.system, which no tensor needs")


def test_pointers_instead_of_files(published, tmp_path):
    """What `git clone` leaves without Git LFS: small text files, the index and the vocabulary real or not."""
    for path in published["bin"].iterdir():
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {path.stat().st_size}\n"
        small = path.name in ("config.json", "pytorch_model.bin.index.json", "generation_config.json")
        (tmp_path / path.name).write_bytes(path.read_bytes() if small else text.encode())
    problem(tmp_path, "11 Git LFS pointers", "19.3 GB", "git lfs pull", "pytorch_model-00001-of-00010.bin")


def test_vocabulary(folder):
    broken = folder("pdparams")
    text = (broken / "qwen.tiktoken").read_bytes()
    (broken / "qwen.tiktoken").unlink()
    problem(broken, "no vocabulary", "qwen.tiktoken")
    (broken / "qwen.tiktoken").write_bytes(text[:-2])
    problem(broken, "qwen.tiktoken", "damaged", "download it again")
    (broken / "qwen.tiktoken").write_bytes(b"".join(text.splitlines(keepends=True)[:-10]))
    problem(broken, "151633 ranks", "needs 151643", "cut off, or another model's")


@pytest.mark.parametrize("change, words", [
    ({"hidden_size": "x"}, ["hidden_size='x'"]),
    ({"visual": None}, ["not a Qwen-VL checkpoint"]),
    ({"quantization_config": {"bits": 4}}, ["quantised"]),
    ({"no_bias": False}, ["no_bias is False, only True is supported"]),
])
def test_config(folder, change, words):
    broken = folder("pdparams")
    replace(broken / "config.json", json.dumps({**CONFIG, **change}).encode())
    problem(broken, *words)


def test_two_formats_in_one_folder(published, folder):
    both = folder("bin")
    for path in published["safetensors"].glob("model*"):
        (both / path.name).symlink_to(path)
    assert lines(both, "problem") == []
    assert "model.safetensors.index.json is used, not pytorch_model.bin.index.json" in lines(both, "note")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_hashes_of_a_list(folder):
    broken = folder("pdparams")
    vocabulary, config = (broken / name for name in ("qwen.tiktoken", "config.json"))
    sums = f"{sha256(vocabulary.read_bytes())}  qwen.tiktoken\n{sha256(config.read_bytes())} *./config.json\n"
    (broken / "SHA256SUMS").write_text(sums + "nonsense\n" + "0" * 64 + "  ../outside\n" + "0" * 64 + "  not-there\n")
    assert "hashes: 2 files as published" in lines(broken, "ok")
    replace(config, config.read_bytes().replace(b'"qwen"', b'"qwem"'))
    problem(broken, "config.json is not the published file", "SHA256SUMS", "download it again")


def test_hashes_of_a_hub_download(folder):
    """huggingface_hub writes them beside the files: a git blob's hash for small files, SHA-256 for large ones."""
    broken = folder("pdparams")
    content = (broken / "config.json").read_bytes()
    blob = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True).stdout.decode().strip()
    metadata = broken / ".cache" / "huggingface" / "download"
    metadata.mkdir(parents=True)
    (metadata / "config.json.metadata").write_text(f"{'1' * 40}\n{blob}\n1700000000.0\n")
    (metadata / "qwen.tiktoken.metadata").write_text(f"{'1' * 40}\n{'2' * 64}\n1700000000.0\n")
    (metadata / "x.incomplete").write_text("")
    problem(broken, "qwen.tiktoken is not the published file", ".cache/huggingface")
    assert "hashes: 1 file as published" in lines(broken, "ok")
    assert "unfinished downloads lie there: x.incomplete" in lines(broken, "note")


def test_hashes_of_the_hub_cache(folder):
    broken = folder("pdparams")
    blobs = broken / "blobs"
    blobs.mkdir()
    content = (broken / "qwen.tiktoken").read_bytes()
    for name in (sha256(content), "3" * 64):
        (blobs / name).write_bytes(content)
        (broken / "qwen.tiktoken").unlink()
        (broken / "qwen.tiktoken").symlink_to(blobs / name)
        assert (lines(broken, "problem") == []) == (name != "3" * 64)


def test_large_files_are_hashed_on_request(folder, monkeypatch, capsys):
    monkeypatch.setattr(download, "SMALL", 1000)
    broken = folder("pdparams")
    (broken / "SHA256SUMS").write_text(f"{'4' * 64}  qwen.tiktoken\n")
    assert lines(broken, "problem") == [] and "HASHES=1" in "".join(lines(broken, "note"))
    assert "qwen.tiktoken" in "".join(lines(broken, "problem", hashes=True))


def test_request_for_hashes_where_there_are_none(published):
    folder = published["pdparams"]
    assert not any("HASHES=1" in line for line in lines(folder, "note"))
    assert any(line.startswith("HASHES=1 compares nothing") for line in lines(folder, "note", hashes=True))


def test_too_small_a_disk(published, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(50 * 10**9))
    problem(published["bin"], "disk", "write 57.9 GB", "50.0 GB free", "BUILD=")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(60 * 10**9))
    assert lines(published["bin"], "problem") == []
    assert "native graphs" in lines(published["bin"], "note")[0] and "96.5 GB" in lines(published["bin"], "note")[0]


def test_what_is_made_already_needs_no_disk(published, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(40 * 10**9))
    (tmp_path / "model_state.pdparams").write_bytes(b"")
    assert check(published["bin"], tmp_path, tmp_path / "exported").problems == []


def test_too_little_memory(published, monkeypatch):
    monkeypatch.setattr(module, "memory", lambda: (10**10, 10**9))
    problem(published["bin"], "memory", "3.7 GB", "1.0 GB are available")


def test_a_machine_that_can_make_the_graphs_but_not_run_them(published, monkeypatch):
    monkeypatch.setattr(module, "memory", lambda: (20 * 10**9, 20 * 10**9))
    assert lines(published["bin"], "problem") == []
    (command,) = lines(published["bin"], "next")
    assert command.endswith(f"make bench CKPT={published['bin']} DTYPE=bfloat16 DEVICE=gpu")


def test_a_machine_with_a_gpu(published, monkeypatch):
    monkeypatch.setattr(module, "GPU", module.Path(os.devnull))
    assert lines(published["bin"], "next")[1] == f"make bench CKPT={published['bin']} DTYPE=bfloat16 DEVICE=gpu"
    assert "export 19.3 GB in bfloat16" in "".join(lines(published["bin"], "ok"))


def test_needs_follow_the_shapes():
    config = ModelConfig.from_dict(CONFIG)
    values = {graph: sum(map(math.prod, parameter_shapes(config, graph).values())) for graph in STAGES}
    assert needs.graph_bytes(config, "float32") == {graph: 4 * count for graph, count in values.items()}
    cache = 2 * 32 * 2048 * 4096 * 2
    assert needs.running_bytes(config, "float16") == 2 * sum(values.values()) + cache

