"""What a text may open: files in the folders that the program named, and nothing else of this machine."""

import os
import sys

import pytest
from PIL import Image

from core.errors import UserError
from infer import __main__ as cli
from infer import chat
from infer.image import default_image, load_image, resolved_folders
from infer.model import QwenVL
from infer.sampling_parameters import Sampling

REFUSED = "a prompt may not open "


@pytest.fixture
def place(tmp_path):
    """A folder that texts may open files from, beside one with a secret."""
    for folder in ("allowed", "allowed2", "secret"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    return tmp_path


@pytest.fixture
def named(exported_tiny, place):
    """Open the pictures that a text names, with (by default) one allowed folder."""
    def opened(text, folders=None):
        model = QwenVL(exported_tiny, "cpu", image_folders=[place / "allowed"] if folders is None else folders)
        return model.prepare(text, [], model.settings(1, Sampling()))[1]
    return opened


def tag(path):
    return f"<img>{path}</img>What?"


def refused(call, *arguments, words=REFUSED):
    with pytest.raises(UserError, match=words) as fault:
        call(*arguments)
    assert str(fault.value).isprintable() and len(str(fault.value)) < 400


def test_files_of_the_folder(named, place):
    (place / "allowed" / "in").mkdir()
    (place / "allowed" / "in" / "link.png").symlink_to(place / "allowed" / "a.png")
    for path in ("allowed/a.png", "allowed/in/../a.png", "secret/../allowed/a.png", "allowed/in/link.png"):
        assert len(named(tag(place / path))) == 1
    assert len(named(tag(place / "allowed/a.png") + tag(place / "allowed2/a.png"),
                     [place / "allowed", place / "allowed2"])) == 2


def test_a_relative_path_counts_from_the_working_directory(named, place, monkeypatch):
    monkeypatch.chdir(place / "allowed")
    assert len(named(tag("a.png"))) == 1
    refused(named, tag("../secret/a.png"))


def test_a_folder_that_is_a_link(named, place):
    (place / "link").symlink_to(place / "allowed")
    assert len(named(tag(place / "link" / "a.png"))) == 1
    assert len(named(tag(place / "allowed" / "a.png"), place / "link")) == 1


@pytest.mark.parametrize("path", [
    "secret/a.png", "allowed/../secret/a.png", "allowed2/a.png", "none.png", "allowed/none/../../secret/a.png",
    "allowed/link.png", "allowed/out/a.png", "allowed/../none.png"])
def test_files_outside_are_refused_alike_whether_they_exist_or_not(named, place, path):
    (place / "allowed" / "link.png").symlink_to(place / "secret" / "a.png")
    (place / "allowed" / "out").symlink_to("../secret")
    refused(named, tag(place / path))


@pytest.mark.parametrize("path", [
    "/etc/passwd", "/etc/none", "file:///etc/passwd", "file:/etc/passwd", "FILE://localhost/etc/passwd", "/dev/zero",
    "/dev/stdin", "/proc/self/environ", "/proc/self/fd/0", "/proc/self/cwd/secret/a.png", "~/a.png", "//etc/passwd",
    "data:image/png;base64,AAAA", ".", "/", "\u2215etc", "a" * 255])
def test_nothing_else_of_the_machine(named, path):
    refused(named, tag(path))


def test_by_default_a_text_opens_nothing(exported_tiny, place):
    model = QwenVL(exported_tiny, "cpu")
    settings, file = model.settings(1, Sampling()), str(place / "allowed" / "a.png")
    refused(model.prepare, tag(file), [], settings)
    refused(model.generate, tag(file))
    refused(model.chat().ask, tag(file))
    assert len(model.prepare("What?", file, settings)[1]) == len(model.prepare("What?", [file], settings)[1]) == 1


def test_a_name_of_zero_bytes(named):
    refused(named, tag("a\0b"), words="no such image")


def test_an_address_needs_more_than_a_folder(named, monkeypatch):
    monkeypatch.delenv("ALLOW_URL", raising=False)
    refused(named, tag("https://127.0.0.1/a.png"), words="ALLOW_URL=1")
    monkeypatch.setenv("ALLOW_URL", "1")
    refused(named, tag("https://127.0.0.1/a.png"), words="no public address")


def test_pipes_and_devices_inside_the_folder_are_not_opened(named, place, monkeypatch):
    os.mkfifo(place / "allowed" / "pipe")
    (place / "allowed" / "empty.png").touch()
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    refused(named, tag(place / "allowed" / "pipe"), words="not an image file")
    refused(named, tag(place / "allowed"), words="not an image file")
    refused(named, tag("/dev/zero"), ["/dev"], words="not an image file")


def test_files_that_say_nothing_of_their_size_are_not_read(named, place):
    (place / "allowed" / "empty.png").touch()
    refused(named, tag(place / "allowed" / "empty.png"), words="is empty")
    refused(named, tag("/proc/self/environ"), ["/proc"], words="is empty")


@pytest.mark.parametrize("replaced_by", ["link", "pipe"])
def test_a_file_that_is_replaced_after_it_was_looked_at(place, monkeypatch, replaced_by):
    file, opened = place / "allowed" / "a.png", os.open

    def swap(path, flags, *rest, **options):
        file.unlink()
        if replaced_by == "link":
            file.symlink_to(place / "secret" / "a.png")
        else:
            os.mkfifo(file)
        return opened(path, flags, *rest, **options)
    monkeypatch.setattr(os, "open", swap)
    refused(load_image, file, resolved_folders(place / "allowed"),
            words=REFUSED if replaced_by == "link" else "not an image file")


@pytest.mark.parametrize("folders", ["", [""], ["/no/such/folder"], [default_image()], "/no/such/folder"])
def test_a_folder_that_is_not_there_is_no_allowance(exported_tiny, folders):
    refused(lambda: QwenVL(exported_tiny, "cpu", image_folders=folders), words="image_folders: there is no folder")


def test_the_command_lines_open_any_file(exported_tiny, place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["infer", "--exported", str(exported_tiny), "--device", "cpu", "--prompt",
                                      tag(place / "secret" / "a.png"), "--max-new-tokens", "2"])
    cli.main()
    assert "TTFT" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["chat", "--exported", str(exported_tiny), "--device", "cpu"])
    monkeypatch.setattr(chat, "Terminal", lambda conversation, options: pytest.fail("made")
                        if conversation._model._image_folders is not None else sys.exit(7))
    with pytest.raises(SystemExit, match="7"):
        chat.main()
