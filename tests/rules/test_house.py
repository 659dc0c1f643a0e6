"""The house stays one that a stranger can live in: rooms, names, and sizes."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "recsvc", "retrain", "modelstore", "servicekit", "deploy", "benchmarks")
MAX_MODULES: Final = 16
MAX_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 50
FORMER: Final = "viewer"
"""The word for users before; wire, migrations and former names of settings keep it."""


def _modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_folder_holds_what_one_reader_looks_for() -> None:
    sizes = Counter(path.parent for path in _modules(*PACKAGES, "tests") if path.stem != "__init__")
    assert {_name(folder): size for folder, size in sizes.items() if size > MAX_MODULES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_holds_one_noun(package: str) -> None:
    lines = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _modules(package)}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_is_seen_whole(package: str) -> None:
    functions = {
        f"{_name(path)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in _modules(package)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("package", ["bridge", "recsvc", "retrain", "modelstore", "servicekit"])
def test_a_class_has_a_name_of_its_own_in_its_package(package: str) -> None:
    names = Counter(
        node.name for path in _modules(package) for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_one_word_means_a_user() -> None:
    found = [
        f"{_name(path)}: {token}"
        for path in _modules(*PACKAGES, "tests", "docs")
        for token in _identifiers(_tree(path))
        if FORMER in token.lower()
    ]
    assert found == []


def test_bounds_are_max_and_min() -> None:
    odd = re.compile(r"_?(MOST|LEAST|FEWEST)_")
    found = {
        f"{_name(path)}: {token}"
        for path in _modules(*PACKAGES)
        for token in _identifiers(_tree(path))
        if odd.match(token)
    }
    assert found == set()


def _identifiers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name):
                yield name
