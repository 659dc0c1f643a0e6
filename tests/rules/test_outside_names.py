"""Names from outside are data: no module but one names files to DuckDB, and none makes a pattern of a name."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("bridge", "deploy", "recsvc", "retrain", "servicekit")
READERS: Final = (
    "read_parquet", "parquet_scan", "read_csv", "read_json", "read_text", "read_blob", "parquet_schema",
    "parquet_metadata", "parquet_file_metadata", "sniff_csv", "delta_scan", "iceberg_scan",
)  # fmt: skip
"""Functions of SQL that take a pattern."""
NAMES_FILES: Final = "input_views.py"
"""The only module that calls them."""
URL_READERS: Final = {"unquote", "unquote_plus", "unquote_to_bytes", "url2pathname"}
READS_URLS: Final = "store_url.py"
"""The only module that says what the URL of a store means."""
GUESSING: Final = {
    "read_table",
    "read_parquet",
    "read_csv",
    "from_parquet",
    "from_csv_auto",
    "ParquetDataset",
    "dataset",
}
"""Methods of DuckDB, pyarrow and pandas that read patterns, or columns in the names of folders."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def faults(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield what a module does with names that it must not."""
    for node in ast.walk(tree):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != NAMES_FILES:
            yield from (f"{where}: {reader}( in a text" for reader in READERS if f"{reader}(" in node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in {"glob", "rglob", "iglob", "fnmatch", "fnmatchcase"}:
                if not all(isinstance(argument, ast.Constant) for argument in node.args):
                    yield f"{where}: {node.func.attr} of what is no constant"
            elif node.func.attr in GUESSING:
                yield f"{where}: {node.func.attr}"
        if isinstance(node, ast.ImportFrom) and path.name != READS_URLS:
            yield from (f"{where}: {one.name}" for one in node.names if one.name in URL_READERS | {"fnmatch", "glob"})


def test_no_name_is_a_pattern() -> None:
    assert [fault for path, tree in modules() for fault in faults(path, tree)] == []


def test_no_statement_names_a_file() -> None:
    statements = sorted((ROOT / "retrain" / "data" / "sql").glob("*.sql"))
    assert statements
    for path in statements:
        text = path.read_text(encoding="utf-8")
        assert not [reader for reader in READERS if f"{reader}(" in text], path.name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('query = f"SELECT * FROM read_parquet({path})"', 1),
        ('connection.execute("FROM read_csv(?)", [path])', 1),
        ('folder.glob(f"{name}*")', 1),
        ("folder.rglob(pattern)", 1),
        ("duckdb.read_parquet(str(path))", 1),
        ("pq.read_table(path)", 1),
        ("from urllib.parse import unquote", 1),
        ('folder.glob("*.parquet")', 0),
    ],
)
def test_the_rule_finds_what_it_forbids(code: str, found: int) -> None:
    assert len([*faults(Path("module.py"), ast.parse(code))]) == found
