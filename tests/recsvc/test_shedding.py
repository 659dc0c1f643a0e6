"""Under overload, work is done only for callers who still wait."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from recsvc.shedding import Expectation, shedding, with_shedding
from servicekit.errors import ServiceError
from servicekit.lifecycle import ThreadServer
from tests.recsvc.calls import Failure

SERVICE = "test.Slow"
ANSWER_S = 0.05


class Context:
    def __init__(self, remaining_s: float) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float:
        return self._remaining_s


def test_a_slow_spell_does_not_refuse_for_ever() -> None:
    """Refused calls teach nothing, so the expectation fades until one is tried again."""
    expected = Expectation(1.0)
    call = shedding(lambda request, _: request, expected, iter(range(100)).__next__)
    context: Any = Context(0.5)
    refused = 0
    while True:
        try:
            call(b"", context)
            break
        except ServiceError:
            refused += 1

    assert 0 < refused < 20


@pytest.fixture
def slow() -> Iterator[tuple[grpc.Channel, Counter[str]]]:
    """Serve on one thread, with answers that take 50 ms."""
    done = Counter[str]()

    def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
        time.sleep(ANSWER_S)
        done["answers"] += 1
        return request

    server = ThreadServer([], threads=1, decorators=[with_shedding])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_methods(SERVICE, {"Answer": handler})
    port = server.start("127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, done
    server.drain(1)


def test_overload_is_told_and_costs_no_work(slow: tuple[grpc.Channel, Counter[str]]) -> None:
    """Of thirty calls at once that wait 0.4 s, about eight can be answered; the others make nobody wait longer."""
    channel, done = slow
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Answer")
    for _ in range(60):
        call(b"learn", timeout=5)
    assert call(b"without a deadline") == b"without a deadline"
    done.clear()

    calls = [call.future(b"x", timeout=0.4) for _ in range(30)]
    outcomes = Counter(one.code() for one in calls)
    call(b"after", timeout=5)

    assert outcomes[grpc.StatusCode.OK] >= 3
    assert outcomes[grpc.StatusCode.OK] + 2 >= done["answers"] - 1
    assert done["answers"] <= 12


def test_the_refusal_says_when_to_come_back(slow: tuple[grpc.Channel, Counter[str]]) -> None:
    channel, _ = slow
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Answer")
    for _ in range(60):
        call(b"learn", timeout=5)

    failure = Failure.of(lambda: call(b"hurried", timeout=ANSWER_S / 2))

    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert failure.retry_after_s == pytest.approx(0.1)
