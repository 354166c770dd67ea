"""The layout is the architecture: folders import those before them, never back, and no modules import in a circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("core", "ops", "export", "infer", "bench", "scripts")  # each may import itself and those before it
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
CPP_ENDINGS = (".cu", ".cuh", ".cc", ".h")


def module_paths(root):
    """{module: path} of all folders."""
    paths = [path for layer in LAYERS for path in (root / layer).rglob("*.py")]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(source, module):
    """Names that a module's source imports, also inside functions: modules, or what stands in them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.split(".")[:-node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def python_imports(root):
    """{module: modules of the project, or of the tests, that it imports}."""
    paths = module_paths(root)

    def owner(name):
        while name not in paths and "." in name:
            name = name.rpartition(".")[0]
        return name

    return {module: {owner(name) for name in imported(path.read_text(encoding="utf-8"), module)
                     if name.split(".")[0] in (*LAYERS, "tests")} - {module} for module, path in paths.items()}


def upward(imports):
    """"module -> module" for every import of a later folder."""
    order = {name: place for place, name in enumerate((*LAYERS, "tests"))}
    return [f"{module} -> {name}" for module, names in sorted(imports.items()) for name in sorted(names)
            if order[name.split(".")[0]] > order[module.split(".")[0]]]


def circle(graph):
    """A circle in {node: nodes that it needs}, [] if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def included(folder):
    """{path: names that it includes} of the C++ and CUDA files below a folder of the project."""
    return {path.relative_to(ROOT).as_posix(): set(INCLUDE.findall(path.read_text(encoding="utf-8")))
            for path in (ROOT / folder).rglob("*") if path.suffix in CPP_ENDINGS}


def test_no_folder_imports_a_later_one():
    imports = python_imports(ROOT)
    assert len(imports) > 100 and upward(imports) == []


def test_no_modules_import_in_a_circle():
    assert circle(python_imports(ROOT)) == []


@pytest.mark.parametrize("source, arrow", [
    ("import infer.engine", "ops.planted -> infer.engine"),
    ("def load():\n    from bench import schema", "ops.planted -> bench.schema"),
    ("from export.names import MAPPING", "ops.planted -> export.names"),
    ("from tests.makes import make", "ops.planted -> tests"), ("from . import weights\nimport core.errors", None)])
def test_a_planted_arrow_is_found(tmp_path, source, arrow):
    for name, text in (("ops/planted", source), ("infer/engine", "import ops.weights"), ("bench/schema", ""),
                       ("export/names", ""), ("ops/weights", ""), ("core/errors", "")):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert upward(python_imports(tmp_path)) == ([arrow] if arrow else [])


def test_a_circle_is_found(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "one.py").write_text("from core import other")
    (tmp_path / "core" / "other.py").write_text("def late():\n    import core.one")
    assert set(circle(python_imports(tmp_path))) == {"core.one", "core.other"}


def test_kernels_know_nothing_of_paddle():
    """What computes takes pointers and sizes; Paddle's headers are for the bindings in ops/paddle."""
    known = ("ops/kernels/", "ops/formats/", "ops/paddle/cpu/")
    wrong = [f"{path} includes {name}" for folder in known for path, names in included(folder).items() for name in names
             if name.startswith(("paddle/", "ops/")) and not name.startswith(known)]
    assert wrong == []


def test_stages_of_kernels_include_in_one_direction():
    """Folders of ops/kernels. The formats, which stages read and which say how stages read them, stand apart."""
    stages = {}
    for path, names in included("ops/kernels").items():
        stage = path.split("/")[2]
        stages.setdefault(stage, set()).update({name.split("/")[2] for name in names
                                                if name.startswith("ops/kernels/")} - {stage})
    assert len(stages) > 6 and stages["common"] == set() and circle(stages) == []
