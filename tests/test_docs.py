"""README and docs name what there is: files, modules and what is in them, make's targets and variables, sections."""

import ast
import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "ops", "export", "infer", "bench", "scripts", "tests", "docs", ".ci", ".github")
BINARY = (".npz", ".safetensors", ".pyc", ".png")
PAGES = [path.relative_to(ROOT).as_posix() for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])]
# Names of other programs, which stand in no source here.
FOREIGN = {"PIP_EXTRA_INDEX_URL", "PIL.ImageOps.exif_transpose", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "external_ops",
           "export_image_encoder.py", "nvjet_sm90_hsh_64x64_64x13_1x2_h_bz_NNT", "--model_name_or_path",
           "FLAGS_use_cuda_managed_memory", "max_length"}
SOURCE = re.compile(r"\.(py|sh|cuh?|cc|h)$")
CODE = re.compile(r"^```.*?^```|(?<!`)`(?!`)([^`]+)`", re.DOTALL | re.MULTILINE)
NAMED_IN_SOURCES = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS[:-1])})/[\w/]+\.(?:md|py|sh|cuh?|cc|h)\b")


@cache
def tree():
    """Paths of all files of the repository's folders, and of those beside them."""
    paths = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts]


@cache
def words():
    """All words of the sources, of their names as well; README, docs and this file are none."""
    texts = [(ROOT / name).read_text(encoding="utf-8", errors="replace") for name in tree()
             if not name.endswith((*BINARY, ".md", Path(__file__).name))]
    return set(re.findall(r"\w+", " ".join([*texts, *tree()])))


def code(text):
    """What a page shows as code: inline pieces, and blocks line by line."""
    for match in CODE.finditer(text):
        yield from [" ".join(match[1].split())] if match[1] else match[0].splitlines()[1:-1]


def is_there(path):
    """Whether a path of the repository, a pattern, or the end of one is the name of a file or folder."""
    pattern = re.sub(r"<\w+>", "*", path).rstrip("/")
    return any(fnmatch(f"/{name}", f"*/{pattern}") or fnmatch(name, f"{pattern}/*") for name in tree())


@cache
def definitions(module):
    """Names that stand at the top of a module, or in its list of all; None if there is no such module."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return None
    names = {path.stem for path in path.parent.iterdir()} if path.name == "__init__.py" else set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names |= set(ast.literal_eval(node.value))
        elif isinstance(node, ast.Assign):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def is_defined(name):
    """Whether a dotted name is a module of the project, or stands in one."""
    module, _, rest = name.rpartition(".")
    return definitions(name) is not None or (
        rest in definitions(module) if definitions(module) is not None else "." in module and is_defined(module))


def fault(piece):
    """What a piece of code names that is not there, "" if nothing."""
    for name in re.findall(r"python3? -m ([\w.]+)", piece):
        if name.split(".")[0] in FOLDERS and definitions(name) is None:
            return f"module {name}"
    for path in re.findall(r"(?<![\w/<>.])(?:core|ops|export|infer|bench|scripts|tests|docs)/[\w/.<>*-]*", piece):
        if not is_there(path):
            return f"path {path}"
    if re.fullmatch(r"[\w/<>-]+\.\w+", piece) and SOURCE.search(piece) and not is_there(piece):
        stem = Path(piece).stem
        return "" if stem in words() or piece in FOREIGN else f"file {piece}"
    if re.fullmatch(r"(core|ops|export|infer|bench|scripts|tests)(\.\w+)+(\(\))?", piece):
        return "" if is_defined(piece.removesuffix("()")) else f"name {piece}"
    if re.fullmatch(r"-{0,2}[A-Za-z_][\w.:]*(\(\))?", piece) and piece not in FOREIGN:
        unknown = {word for word in re.findall(r"\w+", piece.removeprefix("-D")) if "_" in word} - words()
        return f"word {min(unknown)}" if unknown else ""
    return ""


def targets_and_variables():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = re.search(r"^VARIABLES := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)[1].replace("\\\n", " ").split()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)), {*variables, "MARCH", "CXX"}


def call_fault(line):
    """What a call of make names that is not there, "" if nothing."""
    targets, variables = targets_and_variables()
    call = re.match(r"(?:[A-Z_]+=\S* )*make((?: [^#]*)?)", line)
    for word in call[1].split() if call and "…" not in call[1].split()[:1] else ():
        name, is_value, _ = word.partition("=")
        if re.fullmatch(r"[A-Z_]+", name) and is_value and name not in variables:
            return f"variable {name}"
        if re.fullmatch(r"[a-z][a-z-]*", word) and word not in targets and call[1].split()[0] == word:
            return f"target {word}"
    return ""


def anchors(text):
    """GitHub's names of a page's sections."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page, text):
    """Links of a page to files and sections of the repository that are not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, section = target.partition("#")
        if "://" in target:
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or section and section not in anchors(file.read_text(encoding="utf-8")):
            yield target


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    pieces = list(code(text))
    faults = {wrong for piece in pieces for wrong in (fault(piece), call_fault(piece)) if wrong}
    assert sorted(faults) == [] and list(broken_links(page, text)) == []


def test_every_page_can_be_found_from_the_readme():
    seen, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s:]+\.md)", (ROOT / page).read_text(encoding="utf-8"))
        found = {((ROOT / page).parent / link).resolve().relative_to(ROOT).as_posix() for link in links}
        waiting += found - seen - set(waiting)
    assert set(PAGES) - seen == set()


def test_sources_name_files_that_are_there():
    """Comments, docstrings and messages; tests' planted names aside."""
    wrong = {f"{name} names {path}" for name in tree() if not name.endswith((*BINARY, ".md", ".json", ".jsonl"))
             and not name.startswith("tests/")
             for path in NAMED_IN_SOURCES.findall((ROOT / name).read_text(encoding="utf-8")) if not is_there(path)}
    assert wrong == set()


@pytest.mark.parametrize("piece, expected", [
    ("ops/frame/work.py", "path ops/frame/work.py"), ("hopper_tiles.cuh", "file hopper_tiles.cuh"),
    ("core.errors.UserMistake", "name core.errors.UserMistake"), ("ops.paddle_library", "name ops.paddle_library"),
    ("python -m bench.runner", "module bench.runner"), ("no_such_function()", "word no_such_function"),
    ("core.errors.UserError", ""), ("infer.QwenVL", ""), ("ops/formats/<name>/", ""), ("products/hopper.cu", ""),
    ("tests/test_fuzz_*.py", ""), ("bench.arms.base.Arm", ""), ("config.json", "")])
def test_a_planted_name_is_found(piece, expected):
    assert fault(piece) == expected


@pytest.mark.parametrize("line, expected", [
    ("make infr PRESET=tiny", "target infr"), ("make infer PRESETS=tiny", "variable PRESETS"), ("make", ""),
    ("PIP_NO_INDEX=1 make setup DEVICE=gpu", ""), ("make bench  # all of it", "")])
def test_a_planted_call_is_found(line, expected):
    assert call_fault(line) == expected


def test_a_planted_link_is_found():
    assert list(broken_links("docs/stock.md", "[a](stocks.md) [b](stock.md#nowhere) [c](stock.md#the-packages)")) == [
        "stocks.md", "stock.md#nowhere"]
