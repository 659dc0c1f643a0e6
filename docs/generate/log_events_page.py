"""The page of the log events, from the calls that write them."""

import ast
from typing import Final

from docs.generate import markdown, source

INTRODUCTION = """Programs write one JSON object a line to standard error: `event`, `level`, `timestamp`, `service`, and
the fields of the event. A program logs changes of state, not requests."""

_LEVELS: Final = ("debug", "info", "warning", "error", "exception", "critical")


def text() -> str:
    """Return the page."""
    events = sorted({event for module, tree in source.modules() for event in _events(module, tree)})
    rows = [(f"`{event}`", level, f"`{module}`", fields) for event, level, module, fields in events]
    return markdown.page("Log events", INTRODUCTION, markdown.table(("event", "level", "module", "fields"), rows))


def _events(module: str, tree: ast.Module) -> list[tuple[str, str, str, str]]:
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("logger", "log", "_logger")):
            continue
        fields = ", ".join(f"`{one.arg}`" for one in node.keywords if one.arg)
        level = "error" if node.func.attr == "exception" else node.func.attr
        found += [(name, level, module, fields) for name in _names(node.args[0])]
    return found


def _names(event: ast.expr) -> list[str]:
    """Return the names that an event may have: a text, or one of two."""
    if isinstance(event, ast.Constant) and isinstance(event.value, str):
        return [event.value]
    return [*_names(event.body), *_names(event.orelse)] if isinstance(event, ast.IfExp) else []
