"""Reads the programs' source as text, so that generators run none of it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "recsvc", "retrain", "modelstore", "servicekit")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the tree of each module of the programs."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def members(tree: ast.ClassDef | ast.Module) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield the names, values and docstrings of the assignments in a class or module."""
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        target, value = _assigned(node)
        if target is not None and value is not None:
            documented = following.value if isinstance(following, ast.Expr) else None
            text = documented.value if isinstance(documented, ast.Constant) else ""
            yield target, value, text if isinstance(text, str) else ""


def _assigned(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return None, None
