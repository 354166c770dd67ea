"""Images in: opened with every limit checked first, then made into the encoder's input as the reference does."""

import functools
import importlib.util
import io
import math
import os
import re
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from core.errors import UserError
from core.text import short

PILLOW = int(PIL.__version__.split(".")[0])
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
ADDRESS = re.compile("https?://", re.IGNORECASE)
OTHER_ADDRESS = re.compile(r"(data|file|[a-z][a-z\d+.-]+(?=://)):", re.IGNORECASE)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SKIPPED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # texts and the colour profile: no value of a pixel depends on them
MAX_PIXELS = 50_000_000
MAX_SHOWN = 200  # characters of a name in an error
MAX_BYTES = 256 << 20  # 50 megapixels uncompressed with four channels, rounded up
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
# [3, 256]: what each value of a channel becomes. A table is several times faster than the arithmetic on every pixel.
NORMALISED = ((np.arange(256, dtype=np.float32)[:, None] / np.float32(255) - MEAN) / STD).T.copy()


def load_image(source, folders=None):
    """Open an image as an RGB PIL image: a file's path, or with ALLOW_URL=1 in the environment an https address.

    JPEG, PNG, WebP, BMP and GIF are read, of animations the first frame; the content decides which it is, whatever
    the name or the server says. As in the reference (`Image.open(path).convert("RGB")`) the EXIF orientation is not
    applied, transparency and colour profiles are dropped, and greys of 16 bits are cut off at 255 (docs/images.md).
    Raises UserError for a file that is missing, no regular file, empty, larger than
    256 MiB, in no such format, larger than 50 megapixels by its header (nothing is decoded then), or damaged, and
    for an address that is not allowed or cannot be downloaded (see infer.fetch). Where `folders` (a list of resolved
    folders) are given, also for a file that lies in none of them, links followed, whether it exists or not.
    """
    if isinstance(source, str) and ADDRESS.match(source):
        return _decode(io.BytesIO(_download(source)), ascii(source[:200])[1:-1])
    with _opened(Path(source), str(source), folders) as file:
        return _decode(file, Path(source))


def resolved_folders(folders):
    """A folder or several as load_image takes them; UserError for one that is not there."""
    folders = [folders] if isinstance(folders, (str, os.PathLike)) else folders
    for folder in folders:
        if not os.path.isdir(folder):  # "" would stand for the working directory
            raise UserError(f"image_folders: there is no folder {short(folder)}")
    return [Path(folder).resolve() for folder in folders]


def _opened(path, source, folders):
    """The regular file `path` that the text `source` names, open; raises UserError as load_image does."""
    try:
        _check_place(os.path.realpath(path), source, folders)
        _check_kind(path, path.stat())  # before it is opened, which may start a device or wait for a pipe's writer
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except PermissionError:
        raise UserError(f"image {path} may not be read: permission denied") from None
    except (OSError, ValueError):
        raise UserError(_no_file(source)) from None
    try:
        _check_place(os.readlink(f"/proc/self/fd/{file.fileno()}"), source, folders)  # it may have been replaced
        status = os.fstat(file.fileno())
        _check_kind(path, status)
        if not status.st_size:
            raise UserError(f"image {path} is empty")
        if status.st_size > MAX_BYTES:
            raise UserError(f"image {path} is larger than {MAX_BYTES >> 20} MiB: scale it down first")
    except BaseException:
        file.close()
        raise
    return file


def _check_place(path, source, folders):
    if folders is not None and not any(Path(path).is_relative_to(folder) for folder in folders):
        raise UserError(f"a prompt may not open {short(source, MAX_SHOWN)}: give the file as images=, or its folder as "
                        "image_folders=")


def _check_kind(path, status):
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not an image file but a folder or a device")


def _no_file(source):
    """What to say of a text that names no file."""
    address = OTHER_ADDRESS.match(source)
    if not address:
        return f"no such image: {short(source, MAX_SHOWN)}"
    if address[1].lower() == "data":
        return f"a data: address ({len(source)} characters) is no file: save the picture and give its path"
    return f"{short(source)} is a {address[1].lower()}: address, not a path: give the path of a file"


def _download(url):
    if os.environ.get("ALLOW_URL") != "1":
        raise UserError(f"{ascii(url[:200])[1:-1]} is an address, not a file: set ALLOW_URL=1 to let it be downloaded")
    from infer.fetch import fetch  # only now: what nobody downloads for needs no HTTP client

    return fetch(url)


def _decode(file, name):
    """The RGB image in the open file `file`, called `name` in errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size warning and notes on odd metadata
        try:
            with Image.open(_without_texts(file), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UserError(f"image {name} has {image.width} x {image.height} pixels, more than "
                                    f"{MAX_PIXELS // 1_000_000} megapixels: scale it down first")
                return image.convert("RGB")
        except (UserError, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise UserError(f"image {name} has more than {MAX_PIXELS // 1_000_000} megapixels: "
                            "scale it down first") from None
        except Image.UnidentifiedImageError:
            raise UserError(f"{name} is not an image that can be read (JPEG, PNG, WebP, BMP or GIF)") from None
        except Exception as e:  # a damaged file makes the decoders raise nearly anything
            raise UserError(f"image {name} is damaged or incomplete ({e})") from None


def _without_texts(file):
    """`file`, or if that is a PNG a copy of it in memory without texts and colour profile.

    Pillow refuses a picture whose texts are large, since they may unpack to gigabytes; left out they cost nothing.
    """
    signature = file.read(len(PNG_SIGNATURE))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if signature != PNG_SIGNATURE:
        return file
    stripped = io.BytesIO()
    stripped.write(file.read(len(signature)))
    while len(header := file.read(8)) == 8:  # of a chunk: bytes of its content, kind; a checksum follows the content
        length, kind = struct.unpack(">I4s", header)
        end = min(file.tell() + length + 4, size)
        if kind not in PNG_SKIPPED:
            stripped.write(header)
            stripped.write(file.read(end - file.tell()))
        file.seek(end)
    stripped.seek(0)
    return stripped


def to_rgb(image):
    """The PIL image in mode RGB; one that is so already is not copied."""
    return image if image.mode == "RGB" else image.convert("RGB")


def to_pixels(images, image_size):
    """Encoder input for PIL images: resized (bicubic) to a square, scaled to [0, 1], normalised, channel first.

    Returns float32 [N, 3, image_size, image_size].
    """
    pixels = np.empty((len(images), 3, image_size, image_size), np.float32)
    for i, image in enumerate(images):
        resized = to_rgb(image).resize((image_size, image_size), Image.Resampling.BICUBIC)
        values = np.asarray(resized, np.uint8)
        for channel in range(3):
            np.take(NORMALISED[channel], values[:, :, channel], out=pixels[i, channel])
    return pixels


@functools.lru_cache(maxsize=64)
def resize_table(source, target):
    """How Pillow's bicubic filter makes `target` pixels out of `source`: i32 [target, 1 + taps].

    A row holds the first source pixel and the weights of the taps from there on, times 2**22 and rounded as
    Pillow's ImagingResample does for 8-bit images; weights of taps outside the image are 0.
    """
    scale = source / target
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    taps = math.ceil(support) * 2 + 1
    centers = (np.arange(target) + 0.5) * scale
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centers + support + 0.5).astype(np.int64), source)
    weights = np.zeros([target, taps])
    total = np.zeros([target])
    for tap in range(taps):  # one after another: the sum's order is Pillow's
        value = _bicubic((first + tap - centers + 0.5) * (1.0 / stretch))
        weights[:, tap] = np.where(first + tap < end, value, 0.0)
        total += weights[:, tap]
    fixed = weights / total[:, None] * (1 << 22)
    rounded = np.where(fixed < 0, fixed - 0.5, fixed + 0.5).astype(np.int64)
    return np.concatenate([first[:, None], rounded], axis=1).astype(np.int32)


def resizes_columns_first(width, height, size):
    """Whether the installed Pillow resizes the columns of a width x height image before its rows, to size x size.

    Up to version 12 it never did; since 13 it does where the height shrinks much more than the width (Pillow's pull
    request 9549; the bound is what version 13.0.0 was seen to do).
    """
    return PILLOW >= 13 and height > size and height - size > 2 * (width - size)


def _bicubic(x):
    """The cubic convolution kernel with a = -0.5."""
    a, x = -0.5, np.abs(x)
    return np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1,
                    np.where(x < 2, (((x - 5) * x + 8) * x - 4) * a, 0.0))


def default_image():
    """Path of the photograph used when none is given: Grace Hopper, U.S. Navy (public domain), 512 x 600.

    It comes with matplotlib's wheel, which is located but not imported.
    """
    spec = importlib.util.find_spec("matplotlib")
    for folder in spec.submodule_search_locations if spec else ():
        path = Path(folder) / "mpl-data" / "sample_data" / "grace_hopper.jpg"
        if path.is_file():
            return path
    raise UserError("the sample photograph of the matplotlib package is not installed: run make setup, or give IMAGE=")
