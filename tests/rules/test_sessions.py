"""No statement leaves anything in a session, which poolers share between clients; and no connection prepares any."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ("bridge", "retrain", "recsvc", "servicekit")

OF_SESSIONS: Final = re.compile(
    r"""
    \bpg_(try_)?advisory_(lock|unlock)          # those of transactions have xact in their names
    | \A\s*(SET|RESET)\s+(?!LOCAL\b)\w+\s*(=|\bTO\b|;|\Z) | ;\s*SET\s+(?!LOCAL\b)\w+\s*(=|\bTO\b)
    | \bSET\s+SESSION\b | \bset_config\([^)]*,\s*false\s*\)
    | \A\s*(LISTEN|UNLISTEN|DISCARD|PREPARE|DEALLOCATE|LOAD)\s
    | \bCREATE\s+(LOCAL\s+|GLOBAL\s+)?TEMP(ORARY)?\b | \bWITH\s+HOLD\b
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
DUCKDB: Final = ("retrain/data/duckdb_session.py", "retrain/data/input_files.py")
"""Their statements are for a database within the process, which nobody pools."""


def _files() -> Iterator[Path]:
    for program in PROGRAMS:
        yield from sorted((ROOT / program).rglob("*.py"))


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each text that is no docstring, with its line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_no_statement_outlives_its_transaction() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip()[:60]}"
        for path in _files()
        if str(path.relative_to(ROOT)) not in DUCKDB
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8")))
        if OF_SESSIONS.search(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_try_advisory_lock(%s)",
        "SELECT pg_advisory_unlock(1)",
        "SET statement_timeout = 5",
        "SET search_path TO x",
        "BEGIN; SET work_mem = '1GB'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT set_config('a.b', 'c', false)",
        "LISTEN news",
        "CREATE TEMP TABLE t (a int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE p AS SELECT 1",
    ],
)
def test_such_a_statement_would_be_found(statement: str) -> None:
    assert OF_SESSIONS.search(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_try_advisory_xact_lock(%s)",
        "SET LOCAL idle_in_transaction_session_timeout = '60s'",
        "UPDATE t SET a = 1",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE\nSET a = 1",
        "UPDATE retrain_lease\nSET fence = fence + 1",
    ],
)
def test_others_are_not(statement: str) -> None:
    assert not OF_SESSIONS.search(statement)


def test_no_connection_prepares_statements() -> None:
    """Each call that makes one says so: a pooler that is older than protocol-level support knows of none."""
    makers, found = re.compile(r"(^|\.)(AsyncConnection|Connection|psycopg)\.connect$|AsyncConnectionPool$"), []
    for path in _files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and makers.search(ast.unparse(node.func)):
                told = ast.unparse(node)
                if "prepare_threshold" not in told:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
                assert "options=" not in told, f"{path}: poolers refuse options at the start of a session"
    assert found == []
