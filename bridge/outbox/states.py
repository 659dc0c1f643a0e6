"""Defines the states of an outbox row as this process sees it, and the transitions between them.

| what happens | unknown | committing | in flight | relaying | left to relay | acknowledged |
|---|---|---|---|---|---|---|
| commit begins | committing | - | - | - | committing | - |
| commit ends without the row | - | unknown | stays | stays | stays | stays |
| message is sent | in flight | in flight | - | in flight | in flight | in flight |
| message has to wait | left to relay | left to relay | left to relay | left to relay | stays | stays |
| scan shows the row | left to relay | - | stays | stays | stays | stays |
| relay sends the message | relaying | relaying | relaying | - | relaying | relaying |
| relay has sent the message | stays | stays | stays | unknown | stays | stays |
| Kafka acknowledges | acknowledged | acknowledged | acknowledged | acknowledged | acknowledged | stays |
| row is forgotten | stays | stays | stays | stays | unknown | stays |
| memory ends | stays | stays | stays | stays | stays | unknown |

A dash is a defect: nothing in the code does that. A row is forgotten once it is gone from Postgres, or when too many
messages are remembered. A row that becomes unknown while its message is remembered is left to
the relay. Where two things happen in one state that seem to exclude each other, two copies of the message are on their
way: a commit that ended late, or a call that passed Postgres by, sent the message that the relay was about to send.
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Final


class State(IntEnum):
    """States of a row's message; integers, as they are compared for every message."""

    UNKNOWN = auto()
    """Nothing is kept in memory: the row is not there, or another process has made it."""
    COMMITTING = auto()
    """The row's transaction is under way; later messages of its key wait."""
    IN_FLIGHT = auto()
    """This process's producer has the message; later ones of its key go straight after it."""
    RELAYING = auto()
    """The same, and the relay has sent it."""
    LEFT_TO_RELAY = auto()
    """The row waits in Postgres; the relay will send it, before later ones of its key."""
    ACKNOWLEDGED = auto()
    """Kafka has the message; the row is to be deleted, or was a moment ago."""


class RowEvent(IntEnum):
    """Events in the life of a row."""

    COMMIT_BEGINS = auto()
    COMMIT_ENDS_WITHOUT_THE_ROW = auto()
    MESSAGE_IS_SENT = auto()
    MESSAGE_HAS_TO_WAIT = auto()
    SCAN_SHOWS_THE_ROW = auto()
    RELAY_SENDS_THE_MESSAGE = auto()
    RELAY_HAS_SENT_THE_MESSAGE = auto()
    KAFKA_ACKNOWLEDGES = auto()
    ROW_IS_FORGOTTEN = auto()
    MEMORY_ENDS = auto()


def _all_but(*never: State, to: State | None = None) -> dict[State, State]:
    """Return the next state of each state, by default itself, without states in which this never happens."""
    return {state: to or state for state in State if state not in never}


TRANSITIONS: Final[Mapping[RowEvent, Mapping[State, State]]] = {
    RowEvent.COMMIT_BEGINS: {State.UNKNOWN: State.COMMITTING, State.LEFT_TO_RELAY: State.COMMITTING},
    RowEvent.COMMIT_ENDS_WITHOUT_THE_ROW: _all_but(State.UNKNOWN) | {State.COMMITTING: State.UNKNOWN},
    RowEvent.MESSAGE_IS_SENT: _all_but(State.IN_FLIGHT, to=State.IN_FLIGHT),
    RowEvent.MESSAGE_HAS_TO_WAIT: _all_but(to=State.LEFT_TO_RELAY) | {State.ACKNOWLEDGED: State.ACKNOWLEDGED},
    RowEvent.SCAN_SHOWS_THE_ROW: _all_but(State.COMMITTING) | {State.UNKNOWN: State.LEFT_TO_RELAY},
    RowEvent.RELAY_SENDS_THE_MESSAGE: _all_but(State.RELAYING, to=State.RELAYING),
    RowEvent.RELAY_HAS_SENT_THE_MESSAGE: _all_but() | {State.RELAYING: State.UNKNOWN},
    RowEvent.KAFKA_ACKNOWLEDGES: _all_but(to=State.ACKNOWLEDGED),
    RowEvent.ROW_IS_FORGOTTEN: _all_but() | {State.LEFT_TO_RELAY: State.UNKNOWN},
    RowEvent.MEMORY_ENDS: _all_but() | {State.ACKNOWLEDGED: State.UNKNOWN},
}
"""The table above, which the outbox goes by; what is not in it is a defect."""

SENT_HERE: Final = (State.IN_FLIGHT, State.ACKNOWLEDGED, State.RELAYING)
"""States in which a later message of the row's key may be sent straight away: it comes after this one."""
HELD_HERE: Final = (State.COMMITTING, *SENT_HERE)
"""States in which the relay must leave the row alone: it is being committed here, or sent."""
