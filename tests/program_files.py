"""Reads the files of programs, of both kinds, for the tests that say what is in one."""

import json
from typing import NamedTuple


class Operator(NamedTuple):
    """An operator: its type, the weight format that it is told (None: it is told none), the lists that it takes."""

    type: str
    format: str
    lists: list


class Program(NamedTuple):
    """A program: the names of its inputs and of its parameters, in its order, and its Operators."""

    inputs: list
    parameters: list
    operators: list


def read(content):
    """The Program that a file's bytes are."""
    return _pir(json.loads(content)) if content.startswith(b"{") else _protobuf(content)


def _protobuf(content):
    from paddle.base.proto import framework_pb2

    block = framework_pb2.ProgramDesc.FromString(content).blocks[0]
    feeds = {op.outputs[0].arguments[0]: next(a.i for a in op.attrs if a.name == "col")
             for op in block.ops if op.type == "feed"}
    parameters = [v.name for v in block.vars if v.persistable and v.name not in ("feed", "fetch")]
    return Program(sorted(feeds, key=feeds.get), parameters, [
        Operator(op.type, {a.name: a.s for a in op.attrs}.get("format"),
                 [list(i.arguments) for i in op.inputs if "@VECTOR" in i.parameter])
        for op in block.ops if op.type not in ("feed", "fetch")])


def _pir(program):
    made, names = Program([], [], []), {}
    for op in program["program"]["regions"][0]["blocks"][0]["ops"]:
        if op["#"] == "p":
            made.parameters.append(op["A"][3])
            continue
        attributes = {a["N"]: a["AT"].get("D") for a in op["A"]}
        results = [output["%"] for output in op["O"]]
        if op["#"] == "1.data":
            made.inputs.append(attributes["name"])
            names[results[0]] = attributes["name"]
        elif op["#"] == "0.combine":
            names[results[0]] = [names[value["%"]] for value in op["I"]]
        elif op["#"] != "1.fetch":
            taken = [names.get(value["%"], []) for value in op["I"]]
            made.operators.append(Operator(op["#"].partition(".")[2].rstrip("_"), attributes.get("format"),
                                           [value for value in taken if value and isinstance(value, list)]))
    return made
