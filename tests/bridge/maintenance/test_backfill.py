"""What the backfill does when something breaks that nobody has thought of."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.kafka.consumer import Received
from bridge.maintenance.backfill import Backfill
from servicekit.telemetry.metrics import NO_METRICS


class _Reader:
    """Returns each message once, as Kafka does to a member of a group that stays."""

    def __init__(self, *messages: Received) -> None:
        self._messages = [*messages]
        self.committed = 0
        self.done = asyncio.Event()

    async def read(self) -> Sequence[Received]:
        if not self._messages:
            self.done.set()
            await asyncio.Event().wait()
        return [self._messages.pop(0)]

    def commit(self) -> None:
        self.committed += 1


async def test_what_was_read_survives_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has gone on: what it returned is dealt with once more, before anything is committed."""
    message = Received(topic="t", partition=0, offset=0, timestamp_ms=0, key="u", value=b"", headers={})
    reader, ready = _Reader(message), asyncio.Event()
    ready.set()
    database: Any = SimpleNamespace(ready=ready)
    publisher: Any = None
    backfill = Backfill(reader, database, publisher, NO_METRICS)
    settled: list[Sequence[Received]] = []

    async def settle(received: Sequence[Received]) -> None:
        settled.append(received)
        if len(settled) == 1:
            raise RuntimeError("a defect")

    monkeypatch.setattr(backfill, "_settle", settle)
    with pytest.raises(RuntimeError):
        await backfill.run()
    assert reader.committed == 0
    again = asyncio.create_task(backfill.run())
    await asyncio.wait_for(reader.done.wait(), 5)
    again.cancel()
    assert settled == [[message], [message]]
    assert reader.committed == 1
