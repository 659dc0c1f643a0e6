"""Tables of results: printed for people, kept as JSON for comparison."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, float | str]


def table(title: str, rows: Sequence[Row]) -> str:
    """Return a Markdown table with the rows' keys as its head."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in rows]
    return "\n".join([*lines, ""])


def save(folder: Path, name: str, machine: str, tables: Mapping[str, Sequence[Row]]) -> Path:
    """Write a benchmark's tables and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "tables": tables}, indent=2, default=list), encoding="utf-8")
    return path
