"""Where the code of tests lies: what several tests share is found in `support` folders, and nowhere else."""

import ast
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
PROGRAMS: Final = {path.parent for path in TESTS.rglob("__main__.py")}
"""Such as chaos: what a program is made of lies beside it."""


def is_test(name: str) -> bool:
    return name.startswith("test_") or name == "conftest"


def test_what_is_no_test_lies_in_a_support_folder() -> None:
    stray = [
        path
        for path in TESTS.rglob("*.py")
        if not is_test(path.stem) and "support" not in path.parts and not PROGRAMS & {*path.parents}
    ]
    assert stray == []


def test_nobody_imports_from_a_test() -> None:
    """It would run a second time as a module of another name, and moving it would break others."""
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno}: {node.module}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and any(map(is_test, node.module.split(".")))
    ]
    assert found == []


def test_tests_are_no_package() -> None:
    """Files of the same name stand in several folders: pytest imports each by its path (importlib mode)."""
    assert [*TESTS.rglob("__init__.py")] == []
