"""The outbox's states: the table in its three places, and any order of what may happen to rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.kafka.message import Message
from bridge.kafka.single_sender import Delivery
from bridge.outbox import outbox as outbox_module
from bridge.outbox import states
from bridge.outbox.outbox import Accepted, Outbox
from bridge.outbox.pending import PendingByKey
from bridge.outbox.states import HELD_HERE, SENT_HERE, TRANSITIONS, RowEvent, State
from bridge.postgres.pool import Database
from servicekit.telemetry.metrics import NoMetrics

PAGE: Final = Path(__file__).parents[3] / "docs/architecture/ingestion-and-outbox.md"
KEYS: Final = ("a", "b")


def _words(one: State | RowEvent) -> str:
    return one.name.lower().replace("_", " ")


def _table() -> str:
    """Return the transitions as a table, a row for each event and a column for each state."""

    def cell(event: RowEvent, state: State) -> str:
        after = TRANSITIONS[event].get(state)
        return "-" if after is None else "stays" if after is state else _words(after)

    rows = [["what happens", *map(_words, State)], ["---"] * (len(State) + 1)]
    rows += [[_words(event), *(cell(event, state) for state in State)] for event in RowEvent]
    shown = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([shown[0], "|" + "---|" * (len(State) + 1), *shown[2:]]).replace("kafka", "Kafka")


def test_the_table_is_that_of_the_docstring_and_of_the_page() -> None:
    assert _table() in (states.__doc__ or "")
    assert _table() in PAGE.read_text(encoding="utf-8")


def test_what_is_not_in_the_table_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect is told, which raises in the other tests and is logged in service."""
    told: list[tuple[UUID, RowEvent, State]] = []
    monkeypatch.setattr(outbox_module, "on_undefined", lambda *what: told.append(what))
    outbox, event_id = Outbox(Database(""), _Kafka(), NoMetrics(), lambda: 0.0), UUID(int=1)
    for _ in range(2):
        outbox.mark_relaying([event_id])
    assert told == [(event_id, RowEvent.RELAY_SENDS_THE_MESSAGE, State.RELAYING)]
    assert outbox.state(event_id) is State.RELAYING
    assert outbox.sent_count == 1


class _Kafka:
    """Takes messages, and acknowledges or fails them when it is told to."""

    refusals = 0

    def __init__(self) -> None:
        self.pending: list[tuple[Message, Callable[[bool], None]]] = []
        self.arrived: list[Message] = []

    def publish(self, message: Message, done: Callable[[bool], None]) -> None:
        self.pending.append((message, done))

    async def send_singly(self, messages: Sequence[Message]) -> list[Delivery]:
        raise NotImplementedError

    def acknowledge(self) -> None:
        message, done = self.pending.pop(0)
        self.arrived.append(message)
        done(True)  # noqa: FBT003  # the callback's only argument

    def fail_all(self) -> None:
        """Fail everything that is pending, as the producer does when one message fails."""
        failed, self.pending = self.pending, []
        for _, done in failed:
            done(False)  # noqa: FBT003  # likewise


class OutboxMachine(RuleBasedStateMachine):
    """One process's outbox with a model of Postgres' rows and of Kafka; events of a key are numbered."""

    def __init__(self) -> None:
        super().__init__()
        self.kafka = _Kafka()
        self.outbox = Outbox(Database(""), self.kafka, NoMetrics(), lambda: 0.0)
        self.outbox._remembered = PendingByKey(most=50, evicted=self.outbox._on_evicted)
        self.rows: dict[UUID, Message] = {}
        self.commits: list[tuple[list[Message], set[UUID]]] = []
        self.numbers = 0
        self.postgres = True

    def _message(self, key: str) -> Message:
        self.numbers += 1
        event_id = UUID(int=self.numbers)
        return Message(
            event_id=event_id,
            topic="t",
            key=key,
            kind="watch",
            value=str(self.numbers),
            headers={"event-id": str(event_id)},
        )

    @precondition(lambda self: self.postgres and not self.commits)
    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    def begin_commit(self, keys: list[str]) -> None:
        messages = [self._message(key) for key in keys]
        self.commits.append((messages, self.outbox.begin_commit([one.event_id for one in messages])))

    @precondition(lambda self: self.commits)
    @rule(succeeds=st.booleans())
    def end_commit(self, *, succeeds: bool) -> None:
        messages, held = self.commits.pop()
        if not succeeds or not self.postgres:
            self.outbox.end_commit_without(held)
            return
        waiting: dict[UUID, list[UUID]] = {}
        for one in messages:
            first = one.key not in {other.key for other in messages[: messages.index(one)]}
            waiting[one.event_id] = [row for row, had in self.rows.items() if had.key == one.key] if first else []
        self.rows |= {one.event_id: one for one in messages}
        self.outbox.end_commit_without(set())
        self.outbox.send_committed([Accepted(one, 0.0) for one in messages], waiting)

    @precondition(lambda self: self.postgres and not self.commits)
    @rule(key=st.sampled_from(KEYS))
    def another_process_leaves_a_row(self, key: str) -> None:
        message = self._message(key)
        self.rows[message.event_id] = message

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """An event is sent again whose row is still there."""
        message = data.draw(st.sampled_from([*self.rows.values()]))
        held = self.outbox.begin_commit([message.event_id])
        self.outbox.end_commit_without(held)
        if held:
            self.outbox.on_repeat(message)

    @precondition(lambda self: self.postgres)
    @rule(chunk=st.integers(1, 3), acknowledged=st.booleans())
    def relay(self, *, chunk: int, acknowledged: bool) -> None:
        """One scan; what is sent is acknowledged before it ends, or all of it fails."""
        messages = [one for one in self.rows.values() if not self.outbox.is_held(one.event_id)]
        self.outbox.on_scan(messages)
        taken = messages[:chunk]
        self.outbox.mark_relaying([one.event_id for one in taken])
        done: list[Message] = []
        for one in taken:
            self.kafka.publish(one, lambda well, one=one: done.append(one) if well else self.outbox.leave_to_relay(one))  # type: ignore[misc]
        if not acknowledged:
            self.kafka.fail_all()
        while self.kafka.pending:
            self.kafka.acknowledge()
        gone = [one.event_id for one in done]
        self.outbox.mark_relayed(gone)
        for event_id in gone:
            self.rows.pop(event_id, None)
        self.outbox.mark_gone(gone)
        self.outbox.end_scan(complete=True, settled_s=-1)

    @precondition(lambda self: self.kafka.pending)
    @rule()
    def acknowledge(self) -> None:
        self.kafka.acknowledge()

    @rule()
    def fail(self) -> None:
        self.kafka.fail_all()

    @precondition(lambda self: self.postgres)
    @rule()
    def delete_acknowledged(self) -> None:
        gone = list(self.outbox._to_delete)
        for event_id in gone:
            assert self.outbox.state(event_id) is State.ACKNOWLEDGED
            self.rows.pop(event_id, None)
        self.outbox._to_delete.clear()
        self.outbox._end_memory(gone)

    @precondition(lambda self: not self.commits)
    @rule(away=st.booleans())
    def postgres_goes_or_comes(self, *, away: bool) -> None:
        self.postgres = not away

    @precondition(lambda self: not self.postgres)
    @rule(key=st.sampled_from(KEYS))
    def pass_by(self, key: str) -> None:
        if any(one.key == key and self.outbox.state(row) is State.UNKNOWN for row, one in self.rows.items()):
            return  # no scan has shown what is left
        message = self._message(key)
        before = {one.event_id for one in self.kafka.arrived} | {one.event_id for one, _ in self.kafka.pending}
        left = {
            one.event_id
            for one in self.rows.values()
            if one.key == key and self.outbox.state(one.event_id) is State.LEFT_TO_RELAY
        }
        self.outbox.send_unrecorded(message, 0.0, lambda _: None)
        order = [one.event_id for one, _ in self.kafka.pending]
        for earlier in left - before:
            assert order.index(earlier) < order.index(message.event_id)

    @invariant()
    def counts_agree(self) -> None:
        every = [*self.outbox._states.values()]
        assert State.UNKNOWN not in every
        assert self.outbox.sent_count == sum(state in SENT_HERE for state in every)

    @invariant()
    def what_is_left_is_remembered(self) -> None:
        """No row is left to the relay whose message is not at hand for an outage, nor remembered without a state."""
        remembered = set(self.outbox.left_to_relay())
        assert {row for row, state in self.outbox._states.items() if state is State.LEFT_TO_RELAY} <= remembered
        assert all(self.outbox.state(row) is not State.UNKNOWN for row in remembered)

    @invariant()
    def nothing_is_stuck(self) -> None:
        """Every row is either the relay's to send, or somebody in this process is about to settle it."""
        pending = {one.event_id for one, _ in self.kafka.pending}
        committing = {event_id for _, held in self.commits for event_id in held}
        for row in self.rows:
            if self.outbox.state(row) in HELD_HERE:
                assert row in pending or row in committing or row in self.outbox._to_delete

    @invariant()
    def first_arrivals_are_in_order(self) -> None:
        """Committed messages of a key arrive first in the order in which their rows were made."""
        for key in KEYS:
            first = dict.fromkeys(one.event_id.int for one in self.kafka.arrived if one.key == key)
            assert [*first] == sorted(first)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
