"""What callers send is bounded by bytes, wherever it waits."""

import ast
import asyncio
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from bridge.domain.interaction import Interaction, InteractionType
from bridge.ingest import commit_queue
from bridge.ingest.commit_queue import CommitQueue, PendingInteraction
from bridge.kafka.message import Message
from bridge.outbox.pending import PendingByKey

BRIDGE: Final = Path(__file__).parents[3] / "bridge"
QUEUES: Final = {
    "circuit_breaker.py": "two numbers for each bucket of time",
    "commit_queue.py": "bounded by bytes itself",
    "hedging.py": "numbers, `maxlen` of them",
    "interaction_stream.py": "250 events at most, and a stream of them for each connection",
    "pending.py": "bounded by bytes itself",
    "producer.py": "a number and a code for each message in librdkafka's queue, which has a bound in bytes",
    "recent_event_ids.py": "identifiers of one size",
}
"""Modules that may hold a queue of their own, and why it is bounded: callers choose nobody's size there."""


def _calls(path: Path, *names: str) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        node.lineno
        for node in called
        if (node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")) in names
    ]


@pytest.mark.parametrize("path", sorted(BRIDGE.rglob("*.py")), ids=lambda path: path.name)
def test_what_callers_send_waits_in_bounded_containers(path: Path) -> None:
    """A new queue is one of `servicekit.bounded`, or stands above with the reason why it needs no bound in bytes."""
    if path.name not in QUEUES:
        assert _calls(path, "deque", "OrderedDict", "Queue", "LifoQueue", "PriorityQueue", "SimpleQueue") == []


@pytest.mark.parametrize("path", sorted(BRIDGE.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_that_callers_choose_is_interned(path: Path) -> None:
    """Some versions of Python never free an interned text, and callers can choose any number of them."""
    assert _calls(path, "intern") == []


@pytest.mark.parametrize(("character", "length"), [("a", 512), ("é", 256), ("視", 170), ("🎬", 128), ("a", 0)])
async def test_interactions_that_wait_for_a_commit_are_bounded(
    character: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all the metadata that callers may send, and with none."""
    bound = 4 << 20
    monkeypatch.setattr(commit_queue, "MAX_WAITING_BYTES", bound)
    queue, loop = CommitQueue(time.monotonic), asyncio.get_running_loop()
    tracemalloc.start()
    while not queue.full:
        number = len(queue)
        interaction = Interaction(
            event_id=uuid4(),
            user_id=f"user-{number:0100}",
            video_id=f"video-{number:0100}",
            interaction_type=InteractionType.LIKE,
            occurred_at=datetime.now(UTC),
            metadata={f"{key:064}"[:64]: f"{number}{character * length}" for key in range(32 if length else 0)},
        )
        queue.add(PendingInteraction(interaction, b"%016d" % number, number, 0.0, loop.create_future()))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bound // 4 < taken < bound * 1.05


def test_messages_left_behind_are_bounded() -> None:
    bound = 2 << 20
    tracemalloc.start()
    left = PendingByKey(max_bytes=bound)
    for number in range(1000):
        headers = {"event-id": str(number), "metadata": f"{number}" + "🎬" * 4000}
        left.remember(
            Message(event_id=uuid4(), topic="t", key=f"u{number}", kind="like", value=f"{number}", headers=headers)
        )
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bound // 2 < taken < bound * 1.1
    assert left.take("u999")
    assert not left.take("u0")
