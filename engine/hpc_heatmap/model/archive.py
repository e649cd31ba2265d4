"""What a model file may hold: parts that execute code when they are loaded or run are refused.

torch.export.load does more than unpickle: it evaluates expressions, looks up functions by name and
links compiled libraries, all from the archive. Nothing of this is needed for a network, so the
archive is read here first, as text, and anything but tensors and operators is refused.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc_heatmap.errors import ModelError, UnsafeModelError, brief

__all__ = ["CONVERT", "refuse_code"]

CONVERT = (
    "Loading it would execute code from the file, so it is refused: in Python, load it where you "
    "trust it and save it with torch.export.save(torch.export.export(model.eval(), (example,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'model.pt2') or with "
    "torch.onnx.export(..., external_data=False)."
)

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized|quantized_decomposed)\.(?!from_file)[\w.]+"
    r"|math\.\w+|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|lt|le|gt|ge|eq|ne|and_|or_"
    r"|not_|lshift|rshift|getitem)"
)
#: sympy's classes and the torch functions that stand in for them.
_FUNCTION = re.compile(r"[A-Z]\w*|floor|ceiling|max|min|abs|int|float|sym_\w+")
#: Names of symbols and inputs, and numbers.
_WORD = re.compile(r"(?!.*__)[\w.+-]*")
_METHODS = {"size", "stride", "dim", "storage_offset", "shape", "isnan", "item"}
_NODES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.Attribute, ast.Subscript,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Tuple, ast.List, ast.IfExp,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def refuse_code(path: Path) -> None:
    """Refuse a torch.export archive that holds more than tensors and operators.

    Raises
    ------
    UnsafeModelError
        It holds pickled objects, compiled libraries or expressions that execute code.
    ModelError
        It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = "a member twice" if len({*names}) < len(names) else None
            for name in names:
                found = found or _code_in(name, archive)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not a .pt2 model: it is damaged ({brief(error)}).") from error
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is not a .pt2 model: it is damaged ({brief(error)}).") from error
    if found:
        raise UnsafeModelError(f"{path} holds {found}. {CONVERT}")


def _code_in(name: str, archive: zipfile.ZipFile) -> str | None:
    """What in a member could execute code, in words; None where nothing could."""
    if "data/aotinductor/" in name:
        return "a compiled library"
    if name.endswith(("_weights_config.json", "_constants_config.json")):
        for entry in json.loads(archive.read(name))["config"].values():
            if entry["use_pickle"] or not entry["path_name"].startswith(("weight_", "tensor_")):
                return "a pickled Python object"
    elif name.endswith("serialized_exported_program.json") or (
        "models/" in name and name.endswith(".json")
    ):
        for key, value in _entries(json.loads(archive.read(name))):
            if not _harmless(key, value):
                return f"the {key.replace('_', ' ')} '{str(value)[:60]}'"
    return None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of all dictionaries in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _harmless(key: str, value: Any) -> bool:
    if key == "target" and isinstance(value, str):
        return _TARGET.fullmatch(value) is not None
    if key == "expr_str":
        return _is_formula(value)
    if key == "guards_code":
        return all(map(_is_formula, value))
    if key in {"in_spec", "out_spec"} and value:
        return _is_plain_tree(json.loads(value)[1])
    return True


def _is_formula(text: str) -> bool:
    """Whether an expression only computes: torch evaluates it as Python."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except SyntaxError:
        return False
    for node in nodes:
        if not isinstance(node, _NODES):
            return False
        if isinstance(node, ast.Name) and node.id.startswith("__"):
            return False
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS:
            return False
        if isinstance(node, ast.Constant) and not _WORD.fullmatch(str(node.value)):
            return False
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", "")
            if not isinstance(node.func, ast.Attribute) and not _FUNCTION.fullmatch(name):
                return False
    return True


def _is_plain_tree(node: Any) -> bool:
    """Whether a description of arguments names no Python classes but the plain containers."""
    if node["type"] not in _CONTAINERS or "{" in str(node["context"]):
        return False
    return all(map(_is_plain_tree, node["children_spec"]))
