"""Calls of Paddle's that are private or differ from version to version stand in ops/framework, and nowhere else.

Elsewhere may stand what computes, the functions of paddle.tensor and paddle.nn.functional. Everything else that starts
at the module is refused, and so are, on whatever object, private names of its tensors and all names of
the objects that programs and Paddle Inference are made of.
"""

import ast
import contextlib
import re
from pathlib import Path

import pytest

from ops.framework import import_paddle

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "ops", "export", "infer", "bench", "scripts")
HERE = ROOT / "ops" / "framework"
LOADING = ROOT / "ops" / "stock" / "packages" / "paddlenlp_ops" / "loading.py"  # for environments without this source
# What names one version because others do: paddlenlp's requirement, results from before a machine's name told Paddle's
FOR_ONE_PADDLE = ["ops/stock/build.py", "bench/provenance.py", "scripts/doctor.py"]
PLAIN = ([], ["nn"], ["nn", "functional"], ["__version__"], ["assign"])
ANYBODYS = {"blocks", "dtypes", "flush", "inputs", "output", "outputs", "run", "set", "set_state_dict", "summary"}

paddle = import_paddle()
MEMORY = type(paddle.zeros([1]).get_tensor())  # LoDTensor, DenseTensor in Paddle 3
OBJECTS = (paddle.inference.Config, paddle.inference.Predictor, paddle.inference.Tensor, paddle.static.Program,
           paddle.base.framework.Block, paddle.base.layer_helper.LayerHelper, paddle.base.core.ProgramDesc,
           paddle.base.core.VarDesc, paddle.base.core.OpDesc, MEMORY)


def is_special(name):
    return name.startswith("__")


METHODS = {name for name in dir(paddle.Tensor) if name.startswith("_") and not is_special(name)} | {"get_tensor"} | (
    {name for kind in OBJECTS for name in dir(kind) if not is_special(name)} - {*dir(paddle.Tensor), *ANYBODYS})


def computes(path):
    """Whether an attribute of the module, as a list of names, may be used anywhere."""
    *before, name = path or [""]
    return path in PLAIN or (before == [] and callable(getattr(paddle.tensor, name, None))
                             or before == ["nn", "functional"]) and not name.startswith("_")


class Search(ast.NodeVisitor):
    """Finds the calls of one source; `found` holds (line, text)."""

    def __init__(self, source):
        self.found, self.aliases = [], {"paddle": []}
        tree = ast.parse(source)
        if any(isinstance(node, ast.ImportFrom) and "toolchain" in [name.name for name in node.names]
               for node in ast.walk(tree)):
            del self.aliases["paddle"]  # there it is ops.toolchain.Paddle, what is known of an installed wheel
        known = None
        while known != (known := dict(self.aliases)):
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign):
                    self.assign(node.targets[0], node.value)
        self.visit(tree)

    def assign(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for pair in zip(target.elts, value.elts):
                self.assign(*pair)
        elif (path := self.path(value)) is not None:
            self.aliases[ast.unparse(target)] = path

    def path(self, node):
        """The names behind the module that an expression stands for, None for any other one."""
        if ast.unparse(node) in self.aliases:
            return self.aliases[ast.unparse(node)]
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_paddle":
            return []
        if isinstance(node, ast.Attribute) and (before := self.path(node.value)) is not None:
            return [*before, node.attr]
        return None

    def note(self, node, text):
        self.found.append((node.lineno, text))

    def visit_Import(self, node):
        for name in node.names:
            if name.name.split(".")[0] == "paddle":
                self.note(node, f"import {name.name}")

    def visit_ImportFrom(self, node):
        if (node.module or "").split(".")[0] == "paddle":
            self.note(node, f"from {node.module}")

    def visit_Attribute(self, node):
        path = self.path(node)
        if path is None:
            its_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr in METHODS and not its_own:
                self.note(node, f".{node.attr}")
            self.generic_visit(node)
        elif not computes(path):
            self.note(node, f"paddle.{'.'.join(path)}")

    def visit_Call(self, node):
        function = ast.unparse(node.func).split(".")[-1]
        words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        if function in ("import_module", "__import__") and words and words[0].split(".")[0] == "paddle":
            self.note(node, f"import {words[0]}")
        if function in ("getattr", "setattr", "hasattr") and set(words) & METHODS:
            self.note(node, f".{words[0]}")
        self.generic_visit(node)

    def visit_Constant(self, node):
        """A text that is a program."""
        if isinstance(node.value, str) and "import" in node.value and "paddle" in node.value:
            with contextlib.suppress(SyntaxError):
                self.found += [(node.lineno, text) for _, text in Search(node.value).found]


def test_they_stand_in_one_place():
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
               if HERE not in path.parents and path != LOADING]
    assert len(sources) > 100
    assert [f"{path.relative_to(ROOT)}:{line} {text}" for path in sorted(sources)
            for line, text in Search(path.read_text(encoding="utf-8")).found] == []


def test_the_place_holds_them():
    held = {text for path in HERE.glob("*.py") for _, text in Search(path.read_text(encoding="utf-8")).found}
    assert {"import paddle", "paddle.device.cuda.synchronize", "paddle.static.Program", ".create_var",
            ".share_external_data", "._copy_to"} <= held


@pytest.mark.parametrize("source, text", [
    ("import paddle", "import paddle"), ("import paddle.base as b", "import paddle.base"),
    ("from paddle import inference", "from paddle"), ("def f():\n    from paddle.base import core", "from paddle.base"),
    ("import importlib\nimportlib.import_module('paddle.static')", "import paddle.static"),
    ("p = import_paddle()\np.static.Program()", "paddle.static.Program"),
    ("s = import_paddle().static\ns.data('x', [1])", "paddle.static.data"),
    ("self._paddle, x = import_paddle(), 1\nself._paddle.set_flags({})", "paddle.set_flags"),
    ("def f(paddle):\n    paddle.base.core.eager", "paddle.base"), ("x = paddle.CUDAPlace(0)", "paddle.CUDAPlace"),
    ("paddle.device.cuda.synchronize()", "paddle.device"), ("paddle.set_device('gpu')", "paddle.set_device"),
    ("paddle._C_ops.matmul(a, b)", "paddle._C_ops"), ("paddle.enable_static()", "paddle.enable_static"),
    ("paddle.utils.cpp_extension.load('x')", "paddle.utils"), ("paddle.jit.save(m, 'x')", "paddle.jit"),
    ("t.get_tensor().set(a, p)", ".get_tensor"), ("t._slice(0, 1)", "._slice"), ("t._copy_to(p, True)", "._copy_to"),
    ("block.create_var(name='x')", ".create_var"), ("helper.append_op(type='x')", ".append_op"),
    ("handle.share_external_data(t)", ".share_external_data"), ("handle.copy_to_cpu()", ".copy_to_cpu"),
    ("config.enable_memory_optim(True)", ".enable_memory_optim"), ("c.switch_ir_optim(False)", ".switch_ir_optim"),
    ("p.get_input_handle('x')", ".get_input_handle"), ("program.desc._set_version(0)", "._set_version"),
    ("getattr(tensor, '_copy_to')(p)", "._copy_to"), ("CODE = 'import zlib, paddle; paddle.x'", "import paddle")])
def test_a_planted_one_is_found(source, text):
    assert text in {found[:len(text)] for _, found in Search(source).found}


@pytest.mark.parametrize("source", [
    "paddle = import_paddle()\nF = paddle.nn.functional\ny = paddle.matmul(F.softmax(x), w).astype('float32')",
    "paddle.to_tensor(a)\npaddle.empty([1], 'uint8')\npaddle.rand", "print(paddle.__version__)",
    "from ops import toolchain\npaddle = toolchain.paddle()\nprint(paddle.version, paddle.gpu)", "self._place = 1"])
def test_what_computes_is_let_alone(source):
    assert Search(source).found == []


def is_version(node):
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and re.fullmatch(r"(2\.6|3)(\.\d+)*", text) is not None


def asked(source):
    """Lines of a source in which a comparison or a lookup asks for Paddle's version."""
    tree = ast.parse(source)
    constants = {name.id for node in tree.body if isinstance(node, ast.Assign) and any(map(is_version, ast.walk(node)))
                 for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}

    def names_one(part):
        text = ast.unparse(part) if isinstance(part, ast.Attribute | ast.Call | ast.Name) else ""
        return (is_version(part) or isinstance(part, ast.Attribute) and re.search(r"paddle.*\.__version__", text)
                or isinstance(part, ast.Call) and re.search(r"(^|\.)(wheel|own)\(", text)
                or text in constants)

    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.Subscript | ast.Match)
            and any(map(names_one, ast.walk(node)))]


def test_nothing_else_asks_for_the_version():
    found = [path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
             if HERE not in path.parents and asked(path.read_text(encoding="utf-8"))]
    assert found == FOR_ONE_PADDLE


@pytest.mark.parametrize("source, found", [
    ("if paddle.__version__ >= '3': pass", True), ("x = {'2': 1}[paddle.__version__[0]]", True),
    ("new = import_paddle().__version__.startswith('3') == True", True), ("if wheel() == 'x': pass", True),
    ("if own() is paddle3: pass", True), ("print(paddle.__version__)", False), ("if version == '3': pass", True),
    ("OLD = '2.6.2'\nif version != OLD: pass", True), ("OLD = '2.6.2'\nprint(OLD)", False), ("if x == 3: pass", False),
    ("x['3.3']", True), ("x[3]", False)])
def test_a_question_for_the_version_is_found(source, found):
    assert bool(asked(source)) == found
