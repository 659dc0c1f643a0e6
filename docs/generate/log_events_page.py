"""Generates the page of the log events from the calls that write them."""

import ast
from typing import Final

from docs.generate import markdown, source

INTRODUCTION = """Programs write one JSON object a line to standard error: `event`, `level`, `timestamp`, `service`, and
the fields of the event. A program logs changes of state, not requests."""

_LEVELS: Final = ("debug", "info", "warning", "error", "exception", "critical")


def text() -> str:
    """Return the text of the page."""
    events = sorted({event for module, tree in source.modules() for event in _events(module, tree)})
    rows = [(f"`{event}`", level, f"`{module}`", fields) for event, level, module, fields in events]
    return markdown.page("Log events", INTRODUCTION, markdown.table(("event", "level", "module", "fields"), rows))


def _events(module: str, tree: ast.Module) -> list[tuple[str, str, str, str]]:
    found, passed_on = [], _passed_on(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            found += [(name, level, module, fields) for name, level, fields in _lines(node)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            level, fields = _written(node) or passed_on.get(node.func.attr, ("", ""))
            if level:
                found += [(name, level, module, fields) for name in _names(node.args[0])]
    return found


def _written(node: ast.Call) -> tuple[str, str] | None:
    """Return the level and the fields of a call of a logger, None for any other call."""
    called = node.func
    if not (isinstance(called, ast.Attribute) and called.attr in _LEVELS):
        return None
    if not (isinstance(called.value, ast.Name) and called.value.id in ("logger", "log", "_logger")):
        return None
    fields = ", ".join(f"`{one.arg}`" for one in node.keywords if one.arg)
    return "error" if called.attr == "exception" else called.attr, fields


def _passed_on(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Return the functions that write the event they are given, each with its level and fields."""
    found = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        given = {one.arg for one in function.args.args}
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name)):
                continue
            written = _written(node)
            if written and node.args[0].id in given:
                found[function.name] = written
    return found


def _lines(node: ast.Dict) -> list[tuple[str, str, str]]:
    """Return the event of a line that is written by hand: its name, level and fields."""
    names = [str(key.value) if isinstance(key, ast.Constant) else "" for key in node.keys]
    values: dict[str, str] = {}
    for name, value in zip(names, node.values, strict=True):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            values[name] = value.value
    if not {"event", "level"} <= values.keys():
        return []
    fields = ", ".join(f"`{name}`" for name in names if name not in ("event", "level", "service", "timestamp"))
    return [(values["event"], values["level"], fields)]


def _names(event: ast.expr) -> list[str]:
    """Return the names that an event may have: a text, or one of two."""
    if isinstance(event, ast.Constant) and isinstance(event.value, str):
        return [event.value]
    return [*_names(event.body), *_names(event.orelse)] if isinstance(event, ast.IfExp) else []
