"""Generates the page of the exit statuses from the modules that define them."""

import ast

from docs.generate import markdown, source
from retrain import exit_status as retrain_statuses

INTRODUCTION = """Every program ends with 0 after success, and after SIGTERM or Ctrl-C when it is a server. `bridge`,
`recsvc` and `retrain` end with 2 when a setting or the command line is wrong."""


def text() -> str:
    """Return the text of the page."""
    rows = [(str(value), documented) for value, documented in _statuses(retrain_statuses.__name__)]
    retrain = f"## retrain\n\n{markdown.table(('status', 'meaning'), rows)}"
    recsvc = (
        f"## recsvc\n\n{markdown.table(('status', 'meaning'), [('1', _documented('recsvc.__main__', 'NO_MODEL'))])}"
    )
    return markdown.page("Exit statuses", INTRODUCTION, retrain, recsvc)


def _statuses(wanted: str) -> list[tuple[int, str]]:
    return [
        (value.value, documented)
        for name, tree in source.modules()
        if name == wanted
        for _, value, documented in source.members(tree)
        if isinstance(value, ast.Constant) and isinstance(value.value, int)
    ]


def _documented(module: str, constant: str) -> str:
    trees = dict(source.modules())
    return next(documented for name, _, documented in source.members(trees[module]) if name == constant)
