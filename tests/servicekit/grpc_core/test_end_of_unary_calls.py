"""Calls that wait, run or come in when a server ends, and callers that leave before their answer."""

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.server.threaded import ThreadedServer
from tests.servicekit.support.unary_calls import LOCAL, THREADS, Gate
from tests.support.grpc.echo import SERVICE, caller, is_refused
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


ROOT: Final = Path(__file__).parents[3]


CALLER: Final = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    print("calling", flush=True)
    channel.unary_unary(f"/{sys.argv[2]}/Wait")(b"killed", timeout=60)
"""


SERVERS: Final = """
import random, threading, time, sys
from tests.support.grpc.echo import SERVICE, handlers
from tests.support.grpc.thread_servers import KINDS

def spin():
    while True:
        sum(range(200))

threading.Thread(target=spin, daemon=True).start()  # wants the interpreter's lock as well
for round in range(20):
    calls = threading.Semaphore(0)

    def echo(request, _, calls=calls):
        end = time.perf_counter() + 0.0002
        while time.perf_counter() < end:
            pass
        calls.release()
        return request

    server = KINDS[sys.argv[1]]([], threads=8)
    server.add_methods(SERVICE, handlers(Echo=echo))
    print(server.start("127.0.0.1:0"), flush=True)
    for _ in range(10):
        assert calls.acquire(timeout=20), "calls come in"
    time.sleep(random.random() * 0.03)  # ends at any point of a call
    server.drain(2 * (round % 2))
"""


def test_callers_that_gave_up_in_the_queue_harm_nobody(channel: grpc.Channel, gate: Gate) -> None:
    taken = [caller(channel, "Wait").future(b"taken", timeout=20) for _ in range(THREADS)]
    wait_for(lambda: len(gate.entered) == THREADS, what="all threads are taken")

    gone = [caller(channel, "Wait").future(b"gone", timeout=0.2) for _ in range(20)]
    assert {one.code() for one in gone} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    gate.opened.set()

    assert [one.result() for one in taken] == [b"taken"] * THREADS
    assert caller(channel, "Wait")(b"next", timeout=10) == b"next"


def test_callers_that_leave_while_they_are_answered_harm_nobody(
    channel: grpc.Channel, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), structlog.testing.capture_logs() as logged:
        leaving = [caller(channel, "Wait").future(b"leaving", timeout=20) for _ in range(THREADS)]
        wait_for(lambda: len(gate.entered) == THREADS, what="all are let in")
        assert all(one.cancel() for one in leaving)
        gate.opened.set()
        assert caller(channel, "Echo")(b"next", timeout=10) == b"next"
    assert not logged
    assert not caplog.records


def test_callers_that_are_killed_harm_nobody(
    server: tuple[ThreadedServer, str], channel: grpc.Channel, gate: Gate
) -> None:
    command = [sys.executable, "-c", CALLER, server[1], SERVICE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        wait_for(lambda: gate.entered == [b"killed"], what="the call has come")
        process.kill()
    gate.opened.set()
    assert caller(channel, "Echo")(b"next", timeout=10) == b"next"


def test_draining_ends_the_threads(kind: str, server: tuple[ThreadedServer, str], channel: grpc.Channel) -> None:
    before = set(threading.enumerate()) if kind == "plain" else set()  # it starts each one when it is needed
    assert caller(channel, "Echo")(b"mine", timeout=10) == b"mine"
    named = ("rpc-",) if kind == "direct" else ("rpc_", "call_")
    threads = [one for one in threading.enumerate() if one.name.startswith(named) and one not in before]
    assert len(threads) >= {"direct": THREADS, "plain": 2}[kind]
    server[0].drain(0)
    for one in threads:
        one.join(10)
    assert not any(one.is_alive() for one in threads)


def test_calls_that_wait_for_a_thread_are_answered_at_a_drain(
    server: tuple[ThreadedServer, str], channel: grpc.Channel, gate: Gate
) -> None:
    running = [caller(channel, "Wait").future(str(number).encode(), timeout=20) for number in range(10 * THREADS)]
    wait_for(lambda: len(gate.entered) == THREADS, what="all threads are taken")
    health = health_pb2_grpc.HealthStub(channel)  # answered when all calls before it on the connection have come
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10)  # type: ignore[attr-defined]  # the stubs lack it
    draining = threading.Thread(target=server[0].drain, args=(10,))
    draining.start()
    with grpc.insecure_channel(server[1], LOCAL) as late:
        wait_for(lambda: is_refused(late), what="new calls are refused")
    gate.opened.set()

    assert [one.result() for one in running] == [str(number).encode() for number in range(10 * THREADS)]
    draining.join(10)
    assert not draining.is_alive()


def test_servers_end_well_while_calls_come_in(kind: str) -> None:
    """The core of gRPC ends the process where it is used wrongly, so the servers have one of their own."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVERS, kind], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        rounds = sum(1 for port in process.stdout if until_refused(f"127.0.0.1:{port.strip()}") > 0)
    assert (process.returncode, rounds) == (0, 20)


def until_refused(address: str) -> int:
    """Call a server from two threads until it ends; the calls that were answered."""

    def call() -> int:
        answered = 0
        with grpc.insecure_channel(address, LOCAL) as channel:
            try:
                while True:
                    caller(channel, "Echo")(b"", timeout=10)
                    answered += 1
            except grpc.RpcError:
                return answered

    with ThreadPoolExecutor(2) as pool:
        return sum(one.result() for one in [pool.submit(call) for _ in range(2)])
