"""What clients saw, what was read back, and what is wrong between the two."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

SEVERAL: Final = 0
"""In place of a bridge's number where more than one was asked: any of them may have taken the event in."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that a client was told is durable, and by which bridge, counted from 1."""

    user: str
    event_id: str
    bridge: int = 1


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
    """Judge a run: nothing acknowledged is missing, nothing is there twice by event id, each user's order is kept.

    Order is promised for what one bridge has acknowledged: what another has left in Postgres when that goes away is
    not known there.
    """
    rows = Counter(history.rows)
    place = _places(history)
    acknowledged = list(dict.fromkeys(one.event_id for one in history.acknowledged))
    return Verdict(
        lost_in_postgres=[one for one in acknowledged if one not in rows],
        lost_in_kafka=[one for one in acknowledged if one not in place],
        twice_in_postgres=[one for one, times in rows.items() if times > 1],
        only_in_one=sorted(rows.keys() ^ place.keys()),
        out_of_order=list(_overtaken([(_sequence(one), one) for one in history.acknowledged], place)),
        altered=list(history.altered),
    )


def duplicates(history: History) -> int:
    """Return how many messages repeat an event that is in Kafka already, as consumers must expect."""
    return len(history.messages) - len({event_id for _, event_id in history.messages})


def overtaken(history: History) -> int:
    """Return how many events came after a later one of their user, also where another bridge acknowledged that."""
    return len([*_overtaken([(one.user, one) for one in history.acknowledged], _places(history))])


def _places(history: History) -> dict[str, int]:
    """Return for each event where in Kafka it is for the first time."""
    first_seen = dict.fromkeys(event_id for _, event_id in history.messages)
    return {event_id: number for number, event_id in enumerate(first_seen)}


def _sequence(one: Acknowledged) -> str:
    """Return what an event is in order with: what its bridge has acknowledged to its user, or nothing else."""
    return one.event_id if one.bridge == SEVERAL else f"{one.user} {one.bridge}"


def _overtaken(acknowledged: Sequence[tuple[str, Acknowledged]], place: dict[str, int]) -> Iterator[str]:
    """Yield the events of each group that are in Kafka after one that was acknowledged later."""
    earliest: dict[str, int] = {}
    for group, one in reversed(dict.fromkeys(acknowledged)):
        now = place.get(one.event_id)
        if now is None:
            continue
        if now > earliest.get(group, now):
            yield one.event_id
        earliest[group] = min(now, earliest.get(group, now))
