"""Fixtures that more than one test file uses."""

import base64
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import NotHere
from infer.tokenizer import Tokenizer
from ops import toolchain
from ops.stock import build

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]  # run by a hook, tests would commit to the repository that the hook is of


@pytest.fixture(scope="session")
def tiny():
    """Folder of the golden cases of the small reference checkpoint."""
    return DATA / "tiny"


@pytest.fixture(scope="session")
def tokenizer_cases():
    """The reference tokenizer's cases, see tests/data/README.md."""
    return json.loads((DATA / "tokenizer_cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def published_vocabulary():
    """Path of the published qwen.tiktoken inside PyPI's dashscope, a dependency of the tests only."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        pytest.skip("needs the published vocabulary of the dashscope package, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"


@pytest.fixture(scope="session")
def tokenizer(published_vocabulary):
    """The tokenizer over the published vocabulary."""
    return Tokenizer(published_vocabulary, image_start_id=151857)


@pytest.fixture(scope="session")
def byte_vocabulary(tmp_path_factory):
    """Path of a vocabulary of the 256 single bytes, in order."""
    path = tmp_path_factory.mktemp("vocabulary") / "qwen.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256)))
    return path


@pytest.fixture(scope="session")
def byte_tokenizer(byte_vocabulary):
    """The tokenizer over single bytes: <|endoftext|> is 256, <img> 470."""
    return Tokenizer(byte_vocabulary)


@pytest.fixture(scope="session")
def exported_tiny(tmp_path_factory):
    """Exported folder (fused, float32) of a random checkpoint of the tiny preset, vocabulary included."""
    folder = tmp_path_factory.mktemp("tiny")
    for command in (["export.synthetic", "--preset", "tiny", folder / "checkpoint"],
                    ["export", "all", folder / "checkpoint", folder / "exported"]):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder / "exported"


@pytest.fixture
def native_manifest(exported_tiny, tmp_path):
    """A folder whose manifest says that its graphs are native; it has no graphs."""
    folder = tmp_path / "native" / "language"
    folder.mkdir(parents=True)
    (folder / "qwen.tiktoken").symlink_to(exported_tiny / "language" / "qwen.tiktoken")
    manifest = json.loads((exported_tiny / "language" / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"impl": "native"}))
    return folder.parent


@pytest.fixture(scope="session")
def stock_paddle():
    """The Paddle that paddlenlp 2.8.1 and the stock pipeline are for; with another one the test is left out."""
    try:
        build.check_versions(toolchain.paddle())
    except NotHere as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def stock_packages(stock_paddle):
    """Folder that holds the built packages paddlenlp_ops and fused_ln; they are built where that is not done."""
    packages = os.environ.get("QWEN_VL_STOCK")
    if packages:
        return packages
    done = subprocess.run([sys.executable, "-m", "ops.stock.build"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def limited_memory():
    """Readers may take little more memory than the process has already, see fuzzing.limited_memory."""
    from fuzzing import limited_memory

    with limited_memory():
        yield
