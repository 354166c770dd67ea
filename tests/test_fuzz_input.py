"""Damaged images, odd prompts, vocabularies, manifests and answers: a result, or one line."""

import io
import json
import ssl

import numpy as np
import pytest
from checkpoint_files import golden_config
from fuzzing import JSON, changed, damaged, fuzz, survives
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core.config import QUERIES
from infer import drawing, grounding
from infer.fetch import fetch, is_public
from infer.graph import SCHEMA, Manifest
from infer.image import FORMATS, load_image
from infer.prompt import from_list_format, image_spans, make_context, to_list_format

TAGS = ["<img>", "</img>", "<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<|im_start|>", "<|im_end|>",
        "<imgpad>", "(1,2),(3,4)", "(0,0),(1000,1000)", "(1,2),(3,4),(5,6),(7,8)", "dog", ",", " ", "a.jpg", "1001",
        "\\", "\udce9", "\ud800"]
MARKUP = st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=6)), max_size=16).map("".join)

CONTEXT = ssl.create_default_context()
MANIFEST = {"schema": SCHEMA, "graph": "vision", "config": golden_config(), "dtype": "float32", "impl": "fused",
            "operators": "a", "paddle": "2.6.2", "checkpoint": {"hash": "x", "synthetic": True},
            "files": {"model.pdmodel": {"bytes": 1, "xxh3_128": "0"}}}
pytestmark = pytest.mark.usefixtures("limited_memory")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


def picture(kind):
    values = np.random.default_rng(1).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(buffer, format=kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
    return buffer.getvalue()


@fuzz(200)
@given(st.one_of(*(damaged(picture(kind)) for kind in FORMATS), st.binary(max_size=64)))
def test_images(path, raw):
    path.write_bytes(raw)
    image = survives(load_image, path)
    assert image is None or image.mode == "RGB"


@fuzz(100)
@given(st.one_of(st.text(max_size=40), st.text(max_size=20).map("https://".__add__),
                 MARKUP.map("https://127.0.0.1/".__add__)))
def test_addresses(url):
    def resolve(*_):
        raise OSError

    assert survives(fetch, url, resolve, is_public, CONTEXT) is None


@fuzz(50)
@given(st.one_of(st.text(max_size=20), st.ip_addresses().map(str)))
def test_ip_addresses(text):
    assert is_public(text) in (True, False)


@fuzz(150)
@given(MARKUP)
def test_prompts(byte_tokenizer, text):
    ids = survives(byte_tokenizer.encode, text)
    survives(to_list_format, text)
    if ids is not None:
        assert all(0 <= i < byte_tokenizer.vocab_size for i in ids)
        byte_tokenizer.decode(ids)
        survives(image_spans, ids, byte_tokenizer.image_start)
    survives(lambda: make_context(byte_tokenizer, text, [(text, text)], system=text))


@fuzz(100)
@given(st.lists(st.integers(-5, 500), max_size=300))
def test_token_ids(byte_tokenizer, ids):
    byte_tokenizer.decode(ids)
    spans = survives(image_spans, ids, byte_tokenizer.image_start)
    assert spans is None or all(start + QUERIES <= len(ids) for start in spans)


@fuzz(100)
@given(st.lists(st.dictionaries(st.sampled_from(["image", "text", "ref", "box", "quad", "x"]), JSON, max_size=3),
                max_size=3))
def test_list_format(parts):
    survives(from_list_format, parts)


@fuzz(150)
@given(MARKUP)
def test_answers(text):
    regions, problems = grounding.parse(text)
    assert all(problem.isprintable() for problem in problems)
    assert all(0 <= value <= 1000 for region in regions for point in region.points for value in point)


@fuzz(30)
@given(MARKUP, st.integers(1, 40), st.integers(1, 40))
def test_drawing(path, text, width, height):
    paths, count, problems = drawing.save(path.parent / "out", text, Image.new("RGB", (width, height)), text)
    assert len(paths) == (2 if count else 0) and all(problem.isprintable() for problem in problems)


@fuzz(150)
@given(changed(MANIFEST))
def test_manifest(path, value):
    folder = path.parent / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(value))
    found = survives(Manifest, folder)
    if found is not None:
        survives(found.check_files)
