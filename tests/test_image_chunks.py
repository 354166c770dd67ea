"""PNG: large texts and colour profiles are left out unread, other chunks decide; greys of 16 bits; other names."""

import struct
import zlib

import numpy as np
import pytest
from fuzzing import limited_memory
from PIL import Image, PngImagePlugin

from core.errors import UserError
from infer import image as image_module
from infer.image import load_image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGE = 3 << 20


def chunk(kind, data, checksum=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum or zlib.crc32(kind + data))


def png(values, depth, color, before=b"", after=b""):
    """A PNG of values [H, W, channels] in big-endian bytes, with chunks before and after the picture's."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)) + before
            + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b""))


def text_chunk(kind, size):
    text = b"x" * size
    return chunk(kind, {b"tEXt": b"workflow\0" + text, b"zTXt": b"workflow\0\0" + zlib.compress(text),
                        b"iTXt": b"workflow\0\1\0\0\0" + zlib.compress(text),
                        b"iCCP": b"profile\0\0" + zlib.compress(text)}[kind])


@pytest.fixture
def values():
    return np.random.default_rng(1).integers(0, 256, (12, 8, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.png"


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_large_texts_leave_the_picture(path, values, kind, place):
    path.write_bytes(png(values, 8, 2, **{place: text_chunk(kind, LARGE)}))
    np.testing.assert_array_equal(np.asarray(load_image(path)), values)


def test_texts_beyond_pillows_sum(path, values):
    many = text_chunk(b"zTXt", 1 << 20) * (PngImagePlugin.MAX_TEXT_MEMORY // (1 << 20) + 1)
    path.write_bytes(png(values, 8, 2, before=many))
    np.testing.assert_array_equal(np.asarray(load_image(path)), values)


def test_texts_are_not_unpacked(path, values):
    bomb = zlib.compressobj()
    first, block = (bomb.compress(bytes(1 << 20)) + bomb.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    packed = first + 2047 * block  # 2 GiB of zeros
    path.write_bytes(png(values, 8, 2, before=chunk(b"zTXt", b"a\0\0" + packed)))
    load_image(path)  # what is loaded once for all images
    with limited_memory():
        np.testing.assert_array_equal(np.asarray(load_image(path)), values)


def test_pillows_limits_stay(path, values):
    path.write_bytes(png(values, 8, 2, before=text_chunk(b"zTXt", LARGE)))
    load_image(path)
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"), Image.open(path) as image:
        image.load()


@pytest.mark.parametrize("length", [100, 1 << 28, (1 << 32) - 1])
@pytest.mark.parametrize("kind", [b"tEXt", b"quIt"])
def test_a_chunk_longer_than_its_file(path, values, length, kind):
    whole = png(values, 8, 2)
    end = whole.index(b"IDAT") - 4
    path.write_bytes(whole[:end] + struct.pack(">I", length) + kind + b"abc")
    with limited_memory(), pytest.raises(UserError, match="damaged or incomplete|not an image"):
        load_image(path)


def test_other_chunks_with_wrong_checksums_are_refused(path, values):
    path.write_bytes(png(values, 8, 2, before=chunk(b"gAMA", struct.pack(">I", 45455), checksum=1)))
    with pytest.raises(UserError, match="image.png"):
        load_image(path)


GREYS = np.array([[0, 100, 255, 256, 1000, 32768, 65535]], np.uint16)
CUT_OFF, HIGH_BYTES = [0, 100, 255, 255, 255, 255, 255], [0, 0, 0, 1, 3, 128, 255]


@pytest.mark.parametrize("color, channels, expected", [(0, 1, CUT_OFF), (2, 3, HIGH_BYTES), (4, 2, HIGH_BYTES),
                                                       (6, 4, HIGH_BYTES)], ids=["grey", "RGB", "grey+alpha", "RGBA"])
def test_16_bits(path, color, channels, expected):
    path.write_bytes(png(np.repeat(GREYS[:, :, None], channels, axis=2).astype(">u2"), 16, color))
    assert np.asarray(load_image(path))[0].tolist() == [[value] * 3 for value in expected]


def test_16_bit_greys_as_the_documentation_makes_8_of_them(path):
    path.write_bytes(png(GREYS[:, :, None].astype(">u2"), 16, 0))
    Image.fromarray((np.asarray(Image.open(path)) >> 8).astype("uint8")).save(path)
    assert np.asarray(load_image(path))[0, :, 0].tolist() == HIGH_BYTES


@pytest.mark.parametrize("source, words", [
    ("data:image/png;base64," + "A" * 9000, "a data: address (9022 characters) is no file: save the picture"),
    ("DATA:,x", "a data: address (7 characters)"), ("file:///tmp/a.jpg", "file:///tmp/a.jpg is a file: address, not a"),
    ("file:a.jpg", "is a file: address"), ("s3://bucket/a.jpg", "s3://bucket/a.jpg is a s3: address"),
    ("ftp://host/" + "a" * 900, "is a ftp: address"), ("C:\\a.jpg", "no such image: C:\\a.jpg"),
    ("a" * 5000, "no such image: aaa"), ("a\x1b[2J", r"no such image: a\x1b[2J"), ("caf\udce9", r"image: caf\xe9")])
def test_what_is_no_file_is_named_in_a_short_line(source, words):
    with pytest.raises(UserError) as fault:
        load_image(source)
    line = str(fault.value)
    assert words in line and line.isprintable() and len(line) < 260


@pytest.mark.parametrize("name", ["data:a.png", "file:a.png", b"caf\xe9.png"])
def test_a_file_of_any_name_is_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    Image.new("RGB", (2, 3)).save(name, format="PNG")
    assert load_image(name).size == (2, 3)


def test_a_file_that_may_not_be_read(path, monkeypatch):
    Image.new("RGB", (2, 3)).save(path)

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(image_module, "open", refuse, raising=False)
    with pytest.raises(UserError, match="image.png may not be read"):
        load_image(path)
