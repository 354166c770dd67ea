"""Image files that must end in one clear line, before memory is spent on them."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from infer import image as image_module
from infer.image import load_image

KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF"]


def refused(path, words):
    with pytest.raises(UserError) as fault:
        load_image(path)
    assert words in str(fault.value) and "\n" not in str(fault.value)


def photo(path, kind):
    values = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, format=kind)
    return path.read_bytes()


def png_header(width, height):
    """A PNG that consists of its header, and of one chunk that would decode to next to nothing."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))


def test_missing(tmp_path):
    refused(tmp_path / "none.jpg", "no such image")


def test_name_no_file_can_have():
    refused("a\0b", "no such image")


def test_folder(tmp_path):
    refused(tmp_path, "not an image file")


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not an image file")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"hello, this is text\n" * 40, b"\x7fELF" + bytes(400)])
def test_not_an_image(tmp_path, content):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    refused(path, "image")


def test_other_format_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.tiff")
    refused(tmp_path / "image.tiff", "JPEG, PNG, WebP, BMP or GIF")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / "image"
    content = photo(path, kind)
    path.write_bytes(content[:int(len(content) * share)])
    refused(path, "image")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_open_or_are_refused(tmp_path, kind):
    path = tmp_path / "image"
    content = np.frombuffer(photo(path, kind), np.uint8)
    rng = np.random.default_rng(2)
    for _ in range(60):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        try:
            assert load_image(path).mode == "RGB"
        except UserError as fault:
            assert "\n" not in str(fault)


@pytest.mark.parametrize("size", [(10_000, 5_001), (50_000_001, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_more_than_50_megapixels_by_the_header(tmp_path, monkeypatch, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    refused(path, "50 megapixels")


def test_50_megapixels_are_read(tmp_path):
    path = tmp_path / "large.gif"
    Image.new("L", (10_000, 5_000)).save(path)
    assert load_image(path).size == (10_000, 5_000)


def test_too_many_bytes(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("RGB", (64, 64)).save(path)
    monkeypatch.setattr(image_module, "MAX_BYTES", 10)
    refused(path, "larger than")


def test_no_photograph_without_matplotlib(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="IMAGE="):
        image_module.default_image()
