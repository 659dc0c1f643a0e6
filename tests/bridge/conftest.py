"""Fixtures of all of the bridge's tests."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from bridge.outbox import outbox
from bridge.outbox.states import RowEvent, State
from deploy.local.postgres import Postgres


@pytest.fixture(autouse=True)
def defined_transitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise for what the outbox's table of transitions does not know, and fail the test where nobody saw that."""
    undefined: list[str] = []

    def refuse(event_id: UUID, event: RowEvent, state: State) -> None:
        undefined.append(f"{event.name} in {state.name}")
        raise AssertionError(f"{event.name} in {state.name} ({event_id})")

    monkeypatch.setattr(outbox, "on_undefined", refuse)
    yield
    assert not undefined, "the outbox's table does not know this"


@pytest.fixture
def own_database(postgres_server: Postgres) -> str:
    """URL of an empty database of the test's own, which no other relay looks at."""
    return postgres_server.create_database(f"test_{uuid4().hex}")
