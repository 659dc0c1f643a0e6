"""Makes pieces of Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell's line breaks and bars are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def page(title: str, introduction: str, *parts: str) -> str:
    """Return a page with the note that it is generated."""
    note = "<!-- Written by `make docs` from the programs; edit those, not this page. -->"
    return "\n\n".join([note, f"# {title}", introduction, *parts]) + "\n"


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
