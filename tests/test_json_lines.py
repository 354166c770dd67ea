"""Files of JSON lines: what is added is whole whatever was there, and the remedy that an error names mends the file."""

import json
import re
import resource
import subprocess

import pytest

from core import json_lines
from core.errors import UserError

SIDES = '{"a": 1}\n<<<<<<< HEAD\n{"a": 2}\n||||||| base\n=======\n{"a": 3}\n>>>>>>> branch name\n{"a": 4}\n'
DELETE = "delete it: sed -i {number}d {path}"


def numbers(path, **remedies):
    return [value["a"] for _, value in json_lines.read(path, DELETE, **remedies)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it's caf\udce9.jsonl"


def test_what_is_added_is_read(path):
    json_lines.append(path, [{"a": 1}, {"a": "ç\n\udce9"}])
    json_lines.append(path, [{"a": 3}])
    assert numbers(path) == [1, "ç\n\udce9", 3] and path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("torn", [b'{"a": 1', b'{"a": 1}\n{"a"', b'{"a": "\xc3', b'{"a": 1}\n<<<<<<<'])
def test_a_torn_last_line_takes_nothing_with_it(path, torn):
    path.write_bytes(torn)
    json_lines.append(path, [{"a": 2}])
    assert path.read_bytes() == torn + b'\n{"a": 2}\n'


def test_a_full_disk_leaves_the_file_as_it_was(path):
    json_lines.append(path, [{"a": 1}])
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError):
            json_lines.append(path, [{"a": "long enough"}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a": 2, "b\n{"a": 3}\n', b'{"a": 1}\n\xff\n{"a": 3}', b'{"a": 1}\n' +
                                     b"[" * 100_000 + b'\n\n{"a": 3}\n'], ids=["torn", "no UTF-8", "deep"])
def test_a_damaged_line_is_named_and_its_remedy_works(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="line 2 is cut off or damaged") as fault:
        numbers(path)
    mend(fault)
    assert numbers(path) == [1, 3]


def test_marks_of_a_conflict_are_named_and_their_remedy_works(path):
    path.write_text(SIDES)
    with pytest.raises(UserError, match="line 2 is a mark of a conflict in git: keep both") as fault:
        numbers(path, conflict_remedy="keep both: sed -i '/^[<=>|]\\{{7\\}}/d' {path}")
    mend(fault)
    assert numbers(path) == [1, 2, 3, 4]


def test_blank_lines_and_other_line_ends_are_no_damage(path):
    path.write_bytes(b'\n{"a": 1}\r\n  \n{"a": "\xe2\x80\xa8"}\n')
    assert numbers(path) == [1, "\u2028"]


def test_a_missing_file(path):
    with pytest.raises(UserError, match="cannot read .*No such file"):
        numbers(path)


def mend(fault):
    """Run the command that ends an error."""
    command = re.search("sed .*", str(fault.value))[0]
    subprocess.run(["bash", "-c", command], check=True)


def test_lines_are_json(path):
    json_lines.append(path, [{"a": 5.0}])
    assert json.loads(path.read_text()) == {"a": 5.0}
