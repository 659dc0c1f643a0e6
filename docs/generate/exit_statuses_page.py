"""Generates the page of the exit statuses from the modules that define them."""

import ast

from docs.generate import markdown, source
from retrain import exit_status as retrain_statuses

INTRODUCTION = """Every program ends with 0 after success, and after SIGTERM or Ctrl-C when it is a server. `bridge`,
`recsvc` and `retrain` end with 2 when a setting or the command line is wrong; `bridge` also when it cannot do its
work, such as when Postgres is out of reach."""


def text() -> str:
    """Return the text of the page."""
    rows = [(str(value), documented) for value, documented in _statuses(retrain_statuses.__name__)]
    retrain = f"## retrain\n\n{markdown.table(('status', 'meaning'), rows)}"
    return markdown.page(
        "Exit statuses",
        INTRODUCTION,
        _one("bridge", "bridge.app.admin_commands", "DIFFERENT"),
        _one("recsvc", "recsvc.__main__", "NO_MODEL"),
        retrain,
    )


def _one(program: str, module: str, constant: str) -> str:
    """Return the section of a program that has one status of its own."""
    row = (str(_value(module, constant)), _documented(module, constant))
    return f"## {program}\n\n{markdown.table(('status', 'meaning'), [row])}"


def _value(module: str, constant: str) -> int:
    return next(value for name, value, _ in _constants(module) if name == constant)


def _statuses(module: str) -> list[tuple[int, str]]:
    return [(value, documented) for _, value, documented in _constants(module)]


def _documented(module: str, constant: str) -> str:
    found = next(documented for name, _, documented in _constants(module) if name == constant)
    return " ".join(found.split())


def _constants(module: str) -> list[tuple[str, int, str]]:
    """Return names, values and docstrings of a module's whole numbers."""
    tree = dict(source.modules())[module]
    return [
        (name, value.value, documented)
        for name, value, documented in source.members(tree)
        if isinstance(value, ast.Constant) and isinstance(value.value, int)
    ]
