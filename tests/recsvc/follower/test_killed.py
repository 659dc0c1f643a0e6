"""A follower that is killed at any moment, under load, beside readers."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.local.kafka.mock import MockKafka
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.note import read_note
from recsvc.live_state.store import LiveStore
from tests.recsvc.support.followers import INTERACTIONS, counted, done, follows, machine, now_ms, store_of, videos_of
from tests.recsvc.support.programs import environment
from tests.support.polling import wait_for

pytestmark = pytest.mark.process

USERS = 40
EACH = 50


@contextmanager
def follower(folder: Path, bootstrap: str, session: str) -> Iterator["subprocess.Popen[bytes]"]:
    changes = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "RECSVC_SESSION": session}
    with (folder / "follower.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsvc.follower"], env=environment(folder, **changes), stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until_more_than(store: LiveStore, count: float) -> None:
    wait_for(lambda: counted(store) > count, what="reading", timeout_s=60)


def producing(bootstrap: str) -> Callable[[int, int], None]:
    """Return what sends the interactions of all users from one number to another."""
    begin_ms = now_ms() // HOUR_MS * HOUR_MS - HOUR_MS  # all in one hour
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 1})

    def produce(first: int, last: int) -> None:
        for number in range(first, last):
            for user in (f"u{user}" for user in range(USERS)):
                headers: list[tuple[str, str | bytes | None]] = [("event-id", f"{user}-{number}")]
                value = done(user, f"v{number}", at_ms=begin_ms + number)
                producer.produce(INTERACTIONS, key=user, value=value, headers=headers)
        assert producer.flush(20) == 0

    return produce


def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path, own_kafka: MockKafka) -> None:
    """It is killed three times while messages come; readers never fail, and the last one is left clean."""
    machine(tmp_path)
    store, stopping = store_of(tmp_path), threading.Event()
    failures: list[Exception] = []

    def read() -> None:
        number = 0
        while not stopping.wait(0.001):
            number += 1
            try:
                store.known(f"u{number % USERS}")
            except Exception as error:  # noqa: BLE001  # the test tells
                failures.append(error)

    produce = producing(own_kafka.bootstrap)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for life in range(3):
            with follower(tmp_path, own_kafka.bootstrap, "one session") as process:
                produce(life * 10, life * 10 + 5)
                until_more_than(store, life * 10 * USERS)
                produce(life * 10 + 5, life * 10 + 10)
                os.kill(process.pid, signal.SIGKILL)
        with follower(tmp_path, own_kafka.bootstrap, "another session") as process:
            produce(30, EACH)
            wait_for(lambda: counted(store) >= EACH * USERS, what="all is counted", timeout_s=60)
            wait_for(lambda: follows(tmp_path), what="all is read", timeout_s=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    finally:
        stopping.set()
        reader.join()

    assert not failures
    assert counted(store) == EACH * USERS
    for user in range(USERS):
        assert videos_of(store, f"u{user}") == [f"v{number}" for number in range(EACH)]
    note = read_note(store.folder)
    assert note
    assert note.environment == store.current()
    assert note.digest


def test_it_ends_with_its_brokers_gone(tmp_path: Path, own_kafka: MockKafka) -> None:
    """As one that reads, and in order."""
    machine(tmp_path)
    store = store_of(tmp_path)
    with follower(tmp_path, own_kafka.bootstrap, "session") as process:
        wait_for(lambda: follows(tmp_path), what="following", timeout_s=60)
        own_kafka.stop()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    note = read_note(store.folder)
    assert note
    assert note.environment
