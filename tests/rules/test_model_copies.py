"""No copy of a model changes a field that there is none of: pydantic takes any name, and mypy sees a text."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from retrain.run_log.row import RunChange, RunRow

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "modelstore", "recsvc", "retrain", "servicekit")


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield path, node


def test_changed_fields_are_there() -> None:
    changes: list[tuple[Path, ast.expr]] = []
    fields: set[str] = set()
    for path, node in nodes():
        if isinstance(node, ast.ClassDef):
            fields |= {ast.unparse(one.target) for one in node.body if isinstance(one, ast.AnnAssign)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "model_copy":
            changes += [(path, one.value) for one in node.keywords if one.arg == "update"]
    assert changes
    for path, change in changes:
        if isinstance(change, ast.Dict):
            assert {ast.literal_eval(key) for key in change.keys if key} <= fields, f"{path}: {ast.unparse(change)}"
        else:  # of a TypedDict, which mypy checks
            assert (path.name, ast.unparse(change)) == ("row.py", "change")


def test_what_changes_in_a_run_is_a_column() -> None:
    assert RunChange.__annotations__.keys() <= RunRow.model_fields.keys()
