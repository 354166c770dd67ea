"""Preprocessing against the reference's own images and tensors."""

import io

import numpy as np
import pytest
from PIL import Image

from infer.image import default_image, load_image, resize_table, resizes_columns_first, to_pixels

SIZE = 448


@pytest.fixture(scope="module")
def golden(tiny):
    return np.load(tiny / "case0_preprocess.npz")


@pytest.mark.parametrize("name", ["up", "down"])
def test_pixels_equal_the_reference(golden, name):
    pixels = to_pixels([Image.fromarray(golden[f"{name}_raw_u8"])], SIZE)
    assert pixels.dtype == np.float32 and pixels.shape == (1, 3, SIZE, SIZE)
    np.testing.assert_array_equal(pixels[0][:, 5::16, 7::16], golden[f"{name}_normalized_sub"])


@pytest.mark.parametrize("name", ["up", "down"])
def test_every_resized_value_equals_the_reference(golden, name):
    pixels = to_pixels([Image.fromarray(golden[f"{name}_raw_u8"])], SIZE)[0]
    mean = np.array([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
    std = np.array([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)
    values = np.rint((pixels.astype(np.float64) * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(values[::3, 1::3], golden[f"{name}_resized_u8_sub"])


def test_several_images_equal_the_reference(tiny):
    case = np.load(tiny / "case1_vision.npz")
    pixels = to_pixels([Image.fromarray(image) for image in case["images_u8"]], SIZE)
    np.testing.assert_array_equal(pixels[:, :, 5::16, 7::16], case["pixel_values_sub"])


def test_no_image_gives_an_empty_batch():
    assert to_pixels([], SIZE).shape == (0, 3, SIZE, SIZE)


def test_default_image_is_the_photograph():
    image = load_image(default_image())
    assert image.size == (512, 600) and image.mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_formats_open_as_rgb(tmp_path, kind):
    path = tmp_path / "image"
    Image.new("RGB", (30, 20), (200, 30, 60)).save(path, format=kind)
    image = load_image(path)
    assert image.mode == "RGB" and image.size == (30, 20)
    assert np.abs(np.asarray(image).astype(int) - (200, 30, 60)).max() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16"])
def test_modes_open_as_pillow_converts_them(tmp_path, mode):
    path = tmp_path / "image.png"
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).convert(mode).save(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(load_image(path)), np.asarray(image.convert("RGB")))


def test_animation_gives_its_first_frame(tmp_path):
    path = tmp_path / "two.gif"
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert load_image(path).getpixel((0, 0)) == (255, 0, 0)


def test_exif_orientation_is_not_applied(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert load_image(path).size == (40, 20)


def test_source_image_stays_unchanged():
    buffer = io.BytesIO()
    image = Image.new("RGBA", (30, 20), (1, 2, 3, 4))
    to_pixels([image], SIZE)
    image.save(buffer, format="PNG")
    assert image.mode == "RGBA" and image.size == (30, 20)


SIZES = [(512, 600), (512, 576), (512, 577), (720, 993), (448, 448), (449, 447), (37, 901), (3, 5), (2000, 1)]


@pytest.mark.parametrize("width, height", SIZES)
def test_resize_tables_make_what_pillow_makes(width, height):
    image = np.random.default_rng(width).integers(0, 256, [height, width, 3], np.uint8)
    tables = {1: resize_table(width, 448), 0: resize_table(height, 448)}
    made = image
    for axis in (0, 1) if resizes_columns_first(width, height, 448) else (1, 0):
        made = apply_table(made, tables[axis], axis)
    expected = Image.fromarray(image).resize((448, 448), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(made, np.asarray(expected))


def apply_table(image, table, axis):
    """The fixed-point sums of the GPU's kernel."""
    first, weights = table[:, 0], table[:, 1:]
    index = np.minimum(first[:, None] + np.arange(weights.shape[1]), image.shape[axis] - 1)
    taken = np.moveaxis(np.take(image.astype(np.int64), index, axis=axis), (axis, axis + 1), (0, 1))
    sums = np.einsum("tk,tk...->t...", weights.astype(np.int64), taken)
    made = np.clip((sums + (1 << 21)) >> 22, 0, 255).astype(np.uint8)
    return np.moveaxis(made, 0, axis)
