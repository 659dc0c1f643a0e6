"""Calls methods with odd requests, streams and metadata, and collects what servers must not do."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from tests.fuzz.support.messages import Messages
from tests.fuzz.support.methods import Method
from tests.fuzz.support.values import Values
from tests.fuzz.support.verdict import problem_of_error, problem_of_reply

AT_ONCE: Final = 12
MAX_KEPT: Final = 10_000
"""Bytes of a request that is changed and sent again."""
TIMEOUT_S: Final = 60.0
"""Generous, as a busy machine is no fault of a server; one that hangs is found all the same."""
METADATA: Final = (
    (("x-lightfm-api-version", "2025.9"),),
    (("x-lightfm-api-version", "nope"),),
    (("x-lightfm-api-version", ""), ("x-lightfm-api-version", "2025.9")),
    (("authorization", "Bearer x"),),
    (("authorization", ""), ("authorization", "Basic =")),
    (("x-odd-bin", b"\x00\xff\xfe"),),
    (("x-long", "a" * 4_000),),
    tuple((f"x-{number}", "a") for number in range(60)),
    (("traceparent", "00-zz-zz-00"), ("x-datadog-trace-id", "-1"), ("x-datadog-parent-id", "nan")),
)
BY_CLIENT: Final = "Internal error from Core"
"""What grpcio's client says where sending failed, as the call had ended; no server sends it, and logs tell defects."""
CANCELLED, TIMED_OUT = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass(slots=True)
class Findings:
    """What came of all calls.

    Attributes:
        codes: How often a method ended with a status.
        problems: What no server may do, one line each.
    """

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def of(self, method: Method, code: str) -> int:
        return self.codes[method.path, code]


class Fuzzer:
    """Makes calls in an order that a seed decides.

    Args:
        seed: Decides everything that is chosen.
        known: Texts to begin with, by the name of the field.
    """

    def __init__(self, seed: int, known: dict[str, list[str]]) -> None:
        self._rng = random.Random(seed)
        self._values = Values(self._rng, known)
        self._messages = Messages(self._values)
        self.findings = Findings()

    async def run(self, targets: Sequence[tuple[Method, aio.Channel]], calls: int) -> Findings:
        """Send each float, and then anything to each method as often as to the others; several calls at once."""
        swept = [(*target, request) for target in targets for request in self._messages.sweep(target[0].request)]
        turns = iter([*swept, *((*targets[turn % len(targets)], None) for turn in range(calls))])

        async def worker() -> None:
            for method, channel, request in turns:
                await self._call(method, channel, request)

        idle = [asyncio.create_task(self._idle(*target)) for target in targets if target[0].takes_many]
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await asyncio.gather(*idle)
        return self.findings

    async def _call(self, method: Method, channel: aio.Channel, request: bytes | None) -> None:
        count = self._rng.choice((0, 1, 2, 6)) if method.takes_many else 1
        requests = [request] if request else [self._messages.bytes_of(method.request) for _ in range(count)]
        metadata = self._rng.choice(METADATA) if self._rng.random() < 0.15 else None
        ending = 0.5 if request else self._rng.random()
        timeout_s = self._rng.choice((0.0005, 0.005)) if ending < 0.03 else TIMEOUT_S
        stub = method.stub(channel)
        first = self._sent(requests, reset=ending > 0.9) if method.takes_many else requests[0]
        call = stub(first, timeout=timeout_s, metadata=metadata)
        if ending > 0.97:
            call.cancel()
        ended_here = ending < 0.03 or ending > 0.97 or (method.takes_many and ending > 0.9)
        try:
            replies = [one async for one in call] if method.gives_many else [await call]
        except aio.AioRpcError as error:
            self.findings.codes[method.path, error.code().name] += 1
            if error.details() != BY_CLIENT and not (ended_here and error.code() in (CANCELLED, TIMED_OUT)):
                self._note(method, problem_of_error(error, method.request), requests)
        except asyncio.CancelledError:
            if not ended_here:
                raise
            self.findings.codes[method.path, "CANCELLED"] += 1
        else:
            self.findings.codes[method.path, "OK"] += 1
            for reply in replies:
                self._look_at(method, reply, requests)

    @staticmethod
    async def _sent(requests: Sequence[bytes], *, reset: bool) -> AsyncIterator[bytes]:
        for request in requests:
            yield request
        if reset:
            raise asyncio.CancelledError  # the stream is reset in the middle

    async def _idle(self, method: Method, channel: aio.Channel) -> None:
        """Open a stream, say nothing for the time of some calls, and half-close it."""

        async def silence() -> AsyncIterator[bytes]:
            await asyncio.sleep(1)
            for nothing in b"":
                yield bytes(nothing)

        try:
            call = method.stub(channel)(silence(), timeout=TIMEOUT_S)
            _ = [one async for one in call] if method.gives_many else await call
        except aio.AioRpcError as error:
            self._note(method, problem_of_error(error, method.request), [])

    def _look_at(self, method: Method, data: bytes, requests: Sequence[bytes]) -> None:
        try:
            reply = method.reply.FromString(data)
        except DecodeError as error:
            self._note(method, f"the reply cannot be read: {error}", requests)
            return
        self._values.learn(reply)
        if not method.takes_many and len(requests[0]) < MAX_KEPT:
            self._messages.accept(requests[0], method.request, reply)
        self._note(method, problem_of_reply(reply), requests)

    def _note(self, method: Method, problem: str, requests: Sequence[bytes]) -> None:
        if problem:
            sent = [_shown(one) for one in requests[:2]]
            self.findings.problems.append(f"{method.name}: {problem[:300]} <- {sent}")


def _shown(data: bytes) -> Any:
    return data.hex() if len(data) < 400 else f"{data[:100].hex()}… of {len(data)} bytes"
