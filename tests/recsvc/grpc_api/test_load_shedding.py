"""Under overload, work is done only for callers who still wait."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from recsvc.grpc_api.load_shedding import (
    HALF_LIFE_S,
    SILENCE_S,
    STRAIGHT_S,
    Occupation,
    ServiceTimeEstimate,
    shedding,
    with_shedding,
)
from servicekit.grpc.errors import ServiceError
from tests.bridge.support.clock import FakeClock
from tests.recsvc.support.calls import Failure
from tests.support.grpc.thread_servers import KINDS

pytestmark = pytest.mark.peer

SERVICE = "test.Slow"
ANSWER_S = 0.05


class Context:
    def __init__(self, remaining_s: float) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float:
        return self._remaining_s


class Server:
    """The shedding of one method on one thread, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.occupation = Occupation()
        self.expected = ServiceTimeEstimate(now=self.clock.now)
        self.takes_s = 0.0
        self._call = shedding(self._answer, self.expected, self.clock, self.occupation)

    def _answer(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.clock.now += self.takes_s
        return request

    def answers(self, remaining_s: float) -> bool:
        """Return whether a call whose caller waits so long is answered."""
        context: Any = Context(remaining_s)
        try:
            self._call(b"", context)
        except ServiceError:
            return False
        return True

    def stall(self, calls: int = 60, *, remaining_s: float = 0.14) -> None:
        """Answer so many calls, one after the other, each too late."""
        self.takes_s = 0.4
        for _ in range(calls):
            self.clock.now += 2 * STRAIGHT_S
            assert self.answers(remaining_s)
        self.takes_s = 0.001


def test_an_idle_server_refuses_nothing_whatever_it_expects() -> None:
    server = Server()
    server.stall()
    assert server.expected.at(server.clock.now) > 0.13

    for remaining_s in (0.13, 0.001, 0.0):
        server.clock.now += 2 * STRAIGHT_S
        assert server.answers(remaining_s)


def test_a_call_that_waited_is_refused_when_an_answer_would_come_late() -> None:
    server = Server()
    server.stall()

    assert not server.answers(0.13)  # straight after another one
    server.clock.now += STRAIGHT_S / 2
    assert not server.answers(0.13)  # a refusal makes nobody idle
    assert server.answers(0.5)
    with_others = Server()
    with_others.stall()
    with_others.clock.now += 1.0
    other = threading.Thread(target=with_others.occupation.begin)
    other.start()
    other.join()
    assert not with_others.answers(0.05)


def test_a_stall_teaches_no_more_than_callers_wait() -> None:
    """So whoever waits longer than those before is answered, and what was learnt is soon outweighed."""
    server = Server()
    server.stall(remaining_s=0.14)

    assert server.expected.at(server.clock.now) <= 0.14
    assert server.answers(0.141)


def test_what_was_learnt_fades_with_time_and_not_with_refusals() -> None:
    server = Server()
    server.stall()
    expected = server.expected.at(server.clock.now)
    for _ in range(100):
        assert not server.answers(0.05)
    assert server.expected.at(server.clock.now) == expected

    server.clock.now += 0.14 + SILENCE_S
    assert server.expected.at(server.clock.now) == pytest.approx(expected)
    server.clock.now += HALF_LIFE_S * 3
    assert server.expected.at(server.clock.now) == pytest.approx(expected / 8)


def test_a_call_that_fails_leaves_no_thread_at_work() -> None:
    occupation, clock = Occupation(), FakeClock()

    def fail(request: bytes, _: grpc.ServicerContext) -> bytes:
        raise ValueError(request)

    context: Any = Context(1.0)
    with pytest.raises(ValueError, match="x"):
        shedding(fail, ServiceTimeEstimate(), clock, occupation)(b"x", context)

    clock.now += 2 * STRAIGHT_S
    assert not occupation.may_have_waited(clock.now)


@pytest.fixture(params=KINDS)
def slow(request: pytest.FixtureRequest) -> Iterator[tuple[grpc.Channel, Counter[str]]]:
    """Serve on one thread, with answers that take 50 ms."""
    done = Counter[str]()

    def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
        time.sleep(ANSWER_S)
        done["answers"] += 1
        return request

    server = KINDS[request.param]([], threads=1, decorators=[with_shedding])
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

    for _ in range(20):  # a busy machine may answer after the deadline
        at_work = call.future(b"at work", timeout=5)
        failure = Failure.of(lambda: call(b"hurried", timeout=ANSWER_S * 1.5))
        assert at_work.result() == b"at work"
        if failure.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            break

    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert failure.retry_after_s == pytest.approx(0.1)
