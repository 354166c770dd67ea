"""Synthetic checkpoints of the published geometry have the published vocabulary where it can be had, so its prompts."""

import importlib.util

import pytest

from export import vocabulary
from export.vocabulary import write_vocabulary
from infer.prompt import BENCHMARK_PROMPT, with_image
from infer.tokenizer import Tokenizer

IMAGE_START, OTHER = 151857, 1000


def prompt_tokens(path, image_start_id):
    return len(Tokenizer(path, image_start_id).encode(with_image(BENCHMARK_PROMPT, 1)))


def test_the_published_prompt_has_its_own_tokens(published_vocabulary, tmp_path):
    assert write_vocabulary(tmp_path / "v", IMAGE_START) == "published"
    assert (tmp_path / "v").read_bytes() == published_vocabulary.read_bytes()
    assert prompt_tokens(tmp_path / "v", IMAGE_START) == 258 + 13   # the image's span, and the text's


def test_another_geometry_has_one_of_bytes(tmp_path):
    assert write_vocabulary(tmp_path / "v", OTHER) == "bytes"
    assert prompt_tokens(tmp_path / "v", OTHER) > 300


@pytest.mark.parametrize("content", [None, b"another file"])
def test_without_the_published_file_there_is_one_of_bytes(tmp_path, monkeypatch, content):
    spec = None
    if content:
        (tmp_path / "dashscope" / "resources").mkdir(parents=True)
        (tmp_path / "dashscope" / vocabulary.INSIDE).write_bytes(content)
        spec = importlib.util.spec_from_loader("dashscope", None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path / "dashscope")]
    monkeypatch.setattr(vocabulary.importlib.util, "find_spec", lambda _: spec)
    assert write_vocabulary(tmp_path / "v", IMAGE_START) == "bytes"
