"""`python -m tests.chaos.load.driver <plan>`: open-loop load on bridges, from a process of its own, until SIGTERM.

Each call that has ended becomes a line of the plan's output, with its latency from when it was due. A caller whom a
bridge tells UNAVAILABLE turns to the next bridge, as clients with several addresses do; nothing else is tried again.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import numpy as np
from grpc import StatusCode, aio

from benchmarks.open_loop import arrivals
from servicekit.credentials.tls_files import TlsFiles
from tests.chaos.load.call import ACKNOWLEDGED, INTERACTION, PAGE, PERSONAL, SHORT, TRENDING, Call
from tests.chaos.load.event_stream import EventStream, StreamBrokenError
from tests.chaos.load.identities import bearer
from tests.consistency.clients import OPTIONS
from videowindow.feed.v1 import feed_pb2, interaction_pb2
from videowindow.feed.v1.feed_pb2_grpc import FeedServiceStub
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

PAGE_SIZE: Final = 20
READERS: Final = 300
"""Users who ask for pages."""
WRITERS: Final = 100
"""Users who do something."""
VIDEOS: Final = 900
"""Videos that something is done with."""
STREAMED: Final = 3
"""Of each so many interactions one is sent over a stream."""
TIMEOUT_S: Final = 5.0
ROUNDS: Final = 3
"""How often each bridge is asked at most."""
FLUSH_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        addresses: Of the bridges.
        certificate: What to present; with it, its key and whom to trust.
        token_key: What signs the users' tokens.
        pages: Pages a second.
        interactions: Interactions a second.
        seed: Of all randomness.
        output: Where lines go.
    """

    addresses: list[str]
    certificate: str
    key: str
    authority: str
    token_key: str
    pages: float
    interactions: float
    seed: int
    output: str

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it from a file."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def tls(self) -> TlsFiles:
        """Return the identity."""
        return TlsFiles(certificate=Path(self.certificate), key=Path(self.key), authority=Path(self.authority))


def writers() -> list[str]:
    """Return the users whose events are checked at the end."""
    return [*(f"chaos-{number}" for number in range(WRITERS)), "chaos-stream"]


class Bridge:
    """A client's view of one bridge."""

    def __init__(self, channel: aio.Channel, stream_metadata: Any) -> None:
        self.feed: Any = FeedServiceStub(channel)
        self.interactions: Any = InteractionServiceStub(channel)
        self.stream = EventStream(self.interactions, stream_metadata, timeout_s=TIMEOUT_S)


class Load:
    """Makes the calls."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rng = np.random.default_rng(plan.seed)
        self._ended: list[str] = []
        self._running: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        key = Path(plan.token_key)
        self._tokens = {user: bearer(key, user) for user in [*(f"u{n}" for n in range(READERS)), *writers()]}
        credentials = plan.tls().channel()
        options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        channels = [aio.secure_channel(address, credentials, options) for address in plan.addresses]
        self._bridges = [Bridge(channel, self._tokens["chaos-stream"]) for channel in channels]

    async def run(self) -> None:
        """Make calls until SIGTERM, and wait until they have ended."""
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        arriving = [
            asyncio.create_task(self._start(self._page, self._plan.pages, 1)),
            asyncio.create_task(self._start(self._interaction, self._plan.interactions, 2)),
        ]
        with Path(self._plan.output).open("a", encoding="utf-8") as output:  # noqa: ASYNC230  # a line a call
            while not stopped.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), FLUSH_S)
                self._flush(output)
                if self._error:
                    raise self._error
            for task in arriving:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            self._flush(output)

    def _flush(self, output: Any) -> None:
        lines, self._ended = self._ended, []
        if lines:
            output.write("\n".join(lines) + "\n")
            output.flush()

    async def _start(self, call: Callable[[int, float], Awaitable[Call]], rate: float, stream: int) -> None:
        number = 0
        async for due in arrivals(rate, seed=self._plan.seed * 10 + stream):
            task = asyncio.create_task(self._keep(call(number, due)))
            self._running.add(task)
            task.add_done_callback(self._done)
            number += 1

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._error = error

    async def _keep(self, call: Awaitable[Call]) -> None:
        line = (await call).line()
        self._ended.append(line)  # the list of now: others are written while one waits

    async def _page(self, number: int, due: float) -> Call:
        user = f"u{number * 7919 % READERS}"
        request = feed_pb2.GetRecommendationsRequest(user_id=user, page_size=PAGE_SIZE)

        async def ask(bridge: Bridge) -> tuple[str, str]:
            reply = await bridge.feed.GetRecommendations(request, timeout=TIMEOUT_S, metadata=self._tokens[user])
            why = feed_pb2.FallbackReason.Name(reply.fallback_reason).removeprefix("FALLBACK_REASON_").lower()
            if len(reply.videos) != PAGE_SIZE:
                return SHORT, why
            return (PERSONAL, "") if reply.served_by == feed_pb2.SERVED_BY_LIGHTFM else (TRENDING, why)

        outcome, why, tries = await self._by_any_bridge(ask, number)
        return Call(
            kind=PAGE,
            number=number,
            due=due,
            latency_ms=_since_ms(due),
            outcome=outcome,
            why=why,
            tries=tries,
            user=user,
        )

    async def _interaction(self, number: int, due: float) -> Call:
        streamed = number % STREAMED == 0
        user = "chaos-stream" if streamed else f"chaos-{number * 7919 % WRITERS}"
        event = interaction_pb2.Interaction(
            event_id=str(UUID(bytes=self._rng.bytes(16), version=4)),
            user_id=user,
            video_id=f"v{number * 31 % VIDEOS}",
            interaction_type=interaction_pb2.INTERACTION_TYPE_WATCH,
            watch_time=number,
        )

        async def ask(bridge: Bridge) -> tuple[str, str]:
            if streamed:
                await bridge.stream.record(event)
            else:
                request = interaction_pb2.RecordInteractionRequest(interaction=event)
                await bridge.interactions.RecordInteraction(request, timeout=TIMEOUT_S, metadata=self._tokens[user])
            return ACKNOWLEDGED, ""

        outcome, why, tries = await self._by_any_bridge(ask, number)
        return Call(
            kind=INTERACTION,
            number=number,
            due=due,
            latency_ms=_since_ms(due),
            outcome=outcome,
            why=why,
            tries=tries,
            event_id=event.event_id,
            user=user,
            watched=number,
        )

    async def _by_any_bridge(
        self, ask: Callable[[Bridge], Awaitable[tuple[str, str]]], number: int
    ) -> tuple[str, str, int]:
        """Return the outcome, why, and how many bridges were asked."""
        failure = ("", "")
        most = ROUNDS * len(self._bridges)
        for tried in range(1, most + 1):
            bridge = self._bridges[(number + tried) % len(self._bridges)]
            try:
                return *await ask(bridge), tried
            except StreamBrokenError as error:
                failure = (error.code, str(error))
            except aio.AioRpcError as error:
                failure = (error.code().name, error.details() or "")
            if failure[0] != StatusCode.UNAVAILABLE.name:
                return *failure, tried
            if tried % len(self._bridges) == 0:
                await asyncio.sleep(0.05)  # all of them were asked
        return *failure, most


def _since_ms(due: float) -> float:
    return (asyncio.get_running_loop().time() - due) * 1000


async def main(plan: Plan) -> None:
    """Make the calls of a plan: channels belong to the event loop in which they are made."""
    await Load(plan).run()


if __name__ == "__main__":
    asyncio.run(main(Plan.load(Path(sys.argv[1]))))
