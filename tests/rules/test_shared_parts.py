"""What every program needs is there once: locks on files, replacement of files, command lines, bounded maps."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "deploy", "modelstore", "recsvc", "retrain", "servicekit")
OWNERS: Final = {
    "flock": {"servicekit/files/lock.py": "the lock itself"},
    "mkstemp": {"servicekit/files/replacement.py": "the replacement itself"},
    "fsync": {
        "servicekit/files/replacement.py": "the replacement itself",
    },
    "OrderedDict": {
        "bridge/outbox/pending.py": "bounded by bytes, and mostly taken out by key",
    },
    "ArgumentParser": {
        "servicekit/configuration/command_line.py": "the command line itself",
        "deploy/local/__main__.py": "a development tool with options of its own, which reads no settings",
    },
}
"""Calls, and the modules that may make them."""


def _calls(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node.lineno


@pytest.mark.parametrize("call", OWNERS)
def test_each_part_is_called_where_it_belongs(call: str) -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix() for path in paths for name, _ in _calls(path) if name == call}
    assert found == set(OWNERS[call])
