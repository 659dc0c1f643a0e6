"""A call of the load: what was asked, when it was due, and what came of it."""

import json
from dataclasses import astuple, dataclass
from typing import Final, Self

PAGE: Final = "page"
INTERACTION: Final = "interaction"
PERSONAL: Final = "personal"
TRENDING: Final = "trending"
SHORT: Final = "short"
ACKNOWLEDGED: Final = "acknowledged"
GOOD: Final = frozenset({PERSONAL, TRENDING, ACKNOWLEDGED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call, however many bridges were asked.

    Attributes:
        kind: PAGE or INTERACTION.
        number: Counted from 0 for each kind, in the order in which they were due.
        due: When it was to start, on the machine's monotonic clock.
        latency_ms: From then to its end.
        outcome: One of the above, or the code of the last error.
        why: Why a page is not personal.
        tries: Bridges that were asked.
        event_id: Of an interaction.
        user: Who asked.
        watched: The watch time of an interaction, which tells it from others.
    """

    kind: str
    number: int
    due: float
    latency_ms: float
    outcome: str
    why: str = ""
    tries: int = 1
    event_id: str = ""
    user: str = ""
    watched: int = 0

    @property
    def is_good(self) -> bool:
        """Whether it was answered as promised."""
        return self.outcome in GOOD

    def line(self) -> str:
        """Return it as a line of text."""
        return json.dumps(astuple(self))

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the call of a line."""
        kind, number, due, latency_ms, outcome, why, tries, event_id, user, watched = json.loads(line)
        return cls(
            kind=kind,
            number=number,
            due=due,
            latency_ms=latency_ms,
            outcome=outcome,
            why=why,
            tries=tries,
            event_id=event_id,
            user=user,
            watched=watched,
        )
