"""What clients saw, what was read back, and what is wrong between the two."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that a client was told is durable."""

    user: str
    event_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """One run.

    Attributes:
        acknowledged: In the order in which each user's acknowledgements came; a user's next event was sent after that.
        refused: How often a client was told to come back, or was told nothing.
        rows: Event ids in Postgres.
        messages: (user, event id) in Kafka, each user's in their order.
        altered: Event ids in either that hold something else than was sent.
    """

    acknowledged: Sequence[Acknowledged]
    refused: int
    rows: Sequence[str]
    messages: Sequence[tuple[str, str]]
    altered: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the checker found; all lists are empty after a good run."""

    lost_in_postgres: list[str] = field(default_factory=list)
    lost_in_kafka: list[str] = field(default_factory=list)
    twice_in_postgres: list[str] = field(default_factory=list)
    only_in_one: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether every promise was kept."""
        return not any(getattr(self, one.name) for one in fields(self))


def check(history: History) -> Verdict:
    """Judge a run: nothing acknowledged is missing, nothing is there twice by event id, each user's order is kept."""
    rows = Counter(history.rows)
    first_seen = list(dict.fromkeys(event_id for _, event_id in history.messages))
    place = {event_id: number for number, event_id in enumerate(first_seen)}
    acknowledged = list(dict.fromkeys(one.event_id for one in history.acknowledged))
    return Verdict(
        lost_in_postgres=[one for one in acknowledged if one not in rows],
        lost_in_kafka=[one for one in acknowledged if one not in place],
        twice_in_postgres=[one for one, times in rows.items() if times > 1],
        only_in_one=sorted(rows.keys() ^ place.keys()),
        out_of_order=list(_out_of_order(history, place)),
        altered=list(history.altered),
    )


def duplicates(history: History) -> int:
    """Return how many messages repeat an event that is in Kafka already, as consumers must expect."""
    return len(history.messages) - len({event_id for _, event_id in history.messages})


def _out_of_order(history: History, place: dict[str, int]) -> Iterator[str]:
    latest: dict[str, int] = {}
    for one in dict.fromkeys(history.acknowledged):
        now = place.get(one.event_id)
        if now is None:
            continue
        if now < latest.get(one.user, -1):
            yield one.event_id
        latest[one.user] = max(now, latest.get(one.user, -1))
