"""A class's name says which one it is: no two of one package share it."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["modelstore", "recsvc"])
def test_no_two_classes_of_a_package_share_a_name(package: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py")]
    classes = [one.name for source in sources for one in ast.walk(ast.parse(source)) if isinstance(one, ast.ClassDef)]
    assert [name for name, count in Counter(classes).items() if count > 1] == []
