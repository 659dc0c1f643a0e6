"""Generates the page of the metrics from the module that names them and the calls that send them."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from docs.generate import markdown, source
from servicekit.telemetry.metrics import Metric

INTRODUCTION = """Programs send metrics over DogStatsD when `DD_AGENT_HOST` is set. Tags come from small sets; none
names a user or a video. A counter adds up, a gauge is a level, and a distribution has global percentiles."""

PROGRAMS: Final = frozenset({"bridge", "recsvc", "retrain"})
_TYPES: Final = {"count": "counter", "gauge": "gauge", "distribution": "distribution"}


def text() -> str:
    """Return the text of the page."""
    meanings = _meanings()
    uses = _uses()
    rows = []
    users = _users()
    for metric in Metric:
        modules, kinds = uses[metric.name]
        programs = {program for module in modules for program in users[module] & PROGRAMS}
        rows.append((f"`{metric.value}`", ", ".join(sorted(kinds)), ", ".join(sorted(programs)), meanings[metric.name]))
    return markdown.page("Metrics", INTRODUCTION, markdown.table(("name", "type", "sent by", "meaning"), rows))


def _meanings() -> dict[str, str]:
    for _, tree in source.modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == Metric.__name__:
                return {name: documented for name, _, documented in source.members(node)}
    raise LookupError(Metric.__name__)


def _uses() -> dict[str, tuple[set[str], set[str]]]:
    """Return which modules send a metric, and as what."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for module, tree in source.modules():
        kinds: dict[int, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TYPES:
                kinds |= {id(one): _TYPES[node.func.attr] for one in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Metric":
                modules, types = found[node.attr]
                modules.add(module)
                types.update({kinds[id(node)]} if id(node) in kinds else ())
    return found


def _users() -> dict[str, set[str]]:
    """Return which packages use a module: its own one, and those that import it, also by way of others."""
    imports = {module: set(_imported(tree)) for module, tree in source.modules()}
    users = {module: {module.partition(".")[0]} for module in imports}
    while True:
        before = sum(map(len, users.values()))
        for module, imported in imports.items():
            for one in imported & imports.keys():
                users[one] |= users[module]
        if sum(map(len, users.values())) == before:
            return users


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
