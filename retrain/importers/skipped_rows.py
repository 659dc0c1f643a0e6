"""Counts what an import leaves out by reason, with examples, and refuses the import when that is too much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from retrain.data.duckdb_session import DuckDbSession
from retrain.errors import Reason, RunError
from retrain.importers.inputs import LostLines

MAX_LEFT_OUT: Final = 0.01
"""Share of the rows that may be left out unless told otherwise: more is a sign of a wrong option."""
_MAX_WORDS: Final = 20
"""Unknown types of interactions that are named."""
_MAX_EXAMPLES: Final = 3
"""Other values that are named, for each reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedRows:
    """Rows of one kind of a file that were left out.

    Attributes:
        name: That of the file.
        read: Rows that there are, with lines of which none could be made.
        counts: Rows that were left out, by what is wrong with them.
        examples: The wrong values that are most frequent, by what is wrong, each with its number of rows.
        lines: Where lines begin to be lost; None where none are, or the reader does not say.
        within: Lines that lie within quoted values.
    """

    name: str
    read: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    lines: str | None = None
    within: int = 0

    @classmethod
    def of(cls, name: str, warehouse: DuckDbSession, view: str, lost: LostLines | None) -> Self:
        """Return the rows left out of `imported` or `films`, and the lost lines of their files."""
        found: dict[str | None, int] = dict(warehouse.rows(f"{view}_faults"))
        counts = {fault: rows for fault, rows in found.items() if fault is not None}
        examples: dict[str, list[tuple[str, int]]] = {}
        if counts:
            for fault, value, rows in warehouse.rows(f"{view}_examples", most=_MAX_WORDS):
                examples.setdefault(fault, []).append((value, rows))
        if lost and lost.lost:
            counts["line"] = lost.lost
        return cls(
            name=name,
            read=sum(found.values()) + (lost.lost if lost else 0),
            counts=counts,
            examples=examples,
            lines=lost.first if lost and lost.lost else None,
            within=lost.within if lost else 0,
        )

    @property
    def total(self) -> int:
        """Return the number of all rows left out."""
        return sum(self.counts.values())

    def check(self, most: float) -> None:
        """Raise RunError if more than a share of the rows is left out."""
        if self.total == self.read > most * self.read:
            raise self.nothing()
        if self.total > most * self.read:
            raise RunError(
                Reason.DATA,
                f"{self.name}: {self.total:,} of {self.read:,} rows would be left out, more than {most:.3g} of them "
                f"(--max-left-out): {'; '.join(self.told())}",
            )

    def nothing(self) -> RunError:
        """Return the error of a file without a usable row."""
        reasons = "; ".join(self.told()) or "there is none"
        return RunError(Reason.DATA, f"{self.name} holds no row that can be used; left out: {reasons}")

    def told(self) -> list[str]:
        """Return a line for each reason."""
        return [f"{fault} {rows:,}{self._of(fault)}" for fault, rows in self.counts.items()]

    def _of(self, fault: str) -> str:
        if fault == "line":
            return f" ({self.lines})" if self.lines else ""
        most = _MAX_WORDS if fault == "interaction_type" else _MAX_EXAMPLES
        named = self.examples.get(fault, ())[:most]
        listed = ", ".join(f"{value!r} {rows:,}" if value else f"empty {rows:,}" for value, rows in named)
        more = ", …" if sum(rows for _, rows in named) < self.counts[fault] else ""
        return f" ({listed}{more})" if listed else ""
