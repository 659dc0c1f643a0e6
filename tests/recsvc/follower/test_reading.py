"""What users do, from a real Kafka into the store: what is known, what is passed over, what is never lost."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from deploy.local.kafka.mock import MockKafka
from recsvc.follower.topics.message import MAX_BYTES
from recsvc.live_state.status import State, read_status
from recsvc.local_files.folders import LIVE_STATE
from servicekit.telemetry.metrics import Metric
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.followers import (
    INTERACTIONS,
    UPDATES,
    CountedMetrics,
    counted,
    done,
    following,
    follows,
    iso,
    machine,
    now_ms,
    send,
    store_of,
    told,
    until_forgotten,
    until_known,
    videos_of,
)
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer


def test_reading_begins_at_the_cut_off_and_takes_each_event_once(tmp_path: Path, kafka_bootstrap: str) -> None:
    """Repeated deliveries are passed over, in the profile and in the counts; so is what the model knows already."""
    user, since_ms = f"user-{uuid4()}", now_ms()
    machine(tmp_path, data_until=datetime.fromtimestamp(since_ms / 1000, UTC))
    event: list[tuple[str, str | bytes | None]] = [("event-id", str(uuid4()))]
    send(kafka_bootstrap, done(user, "old"), key=user, at_ms=since_ms - 86_400_000)
    twice = done(user, "twice"), done(user, "twice", at_ms=since_ms - 5)
    send(kafka_bootstrap, *twice, key=user, at_ms=since_ms + 1, headers=event)
    send(kafka_bootstrap, done(user, "last"), key=user, at_ms=since_ms + 1)
    store = store_of(tmp_path)

    with following(tmp_path, kafka_bootstrap):
        until_known(store, user, "last")
        send(kafka_bootstrap, done(user, "live"), key=user)
        until_known(store, user, "live")

    assert [name for name in videos_of(store, user) if name != "old"] == ["twice", "last", "live"]


def test_an_update_is_known_and_a_tombstone_of_either_topic_forgets(tmp_path: Path, own_kafka: MockKafka) -> None:
    machine(tmp_path)
    bootstrap, store = own_kafka.bootstrap, store_of(tmp_path)
    at_ms = now_ms()
    with following(tmp_path, bootstrap):
        for user, topic in (("one", INTERACTIONS), ("two", UPDATES)):
            send(bootstrap, told("v1", "v2", timestamp=iso(at_ms - 2)), key=user, topic=UPDATES)
            until_known(store, user, "v2")
            send(bootstrap, None, key=user, topic=topic, at_ms=at_ms, headers=[])
            until_forgotten(store, user, at_ms)
            send(bootstrap, done(user, "before", at_ms=at_ms), done(user, "after", at_ms=at_ms + 1), key=user)
            until_known(store, user, "after")
            assert videos_of(store, user) == ["after"]
        send(bootstrap, None, key="two", topic=UPDATES, headers=[("erased-at", iso(at_ms + 1))])
        wait_for(lambda: store.known("two") == (None, at_ms + 1), what="forgotten by the header's time")
        send(bootstrap, None, key="one", topic=UPDATES, headers=[("erased-at", iso(at_ms + 10**9))])
        wait_for(lambda: store.known("one").profile is None, what="forgotten")
        forgotten_at_ms = store.known("one").forgotten_at_ms
    assert forgotten_at_ms
    assert forgotten_at_ms <= now_ms(), "nobody is forgotten in the future"
    assert {mark for mark, *_ in store.marks()} == {user_fingerprint("one"), user_fingerprint("two")}


def test_no_odd_message_costs_another_one_or_a_line_of_the_log(tmp_path: Path, own_kafka: MockKafka) -> None:
    """All of them come in one batch, as they were there before the reading began."""
    machine(tmp_path)
    bootstrap, store, metrics = own_kafka.bootstrap, store_of(tmp_path), CountedMetrics()
    values = [b"[" * 60_000, b"[" * 900_000, b"{", b"", b'{"userId": true}', b"\xff", b"x" * (MAX_BYTES + 1)]
    odd_headers: list[list[tuple[str, str | bytes | None]]] = [
        [("rating", b"\xff")],
        [("rating", "five"), ("rating", None), ("rating", "six")],
        [("erased-at", b"\xff")],
    ]
    odd = 0
    for value in values * 3:
        send(bootstrap, value, key="u")
        odd += 1
    for headers in odd_headers[:2]:
        send(bootstrap, done("u", "rated", "rating"), key="u", headers=headers)
        odd += 1
    for key in ("", b"\xff", "x" * 200):
        send(bootstrap, None, key=key)
        send(bootstrap, told("v9"), key=key, topic=UPDATES)
        odd += 2
    send(bootstrap, None, key="u", headers=odd_headers[2])
    odd += 1
    partly = json.loads(told("v1", "v2", "v3"))
    partly["interactions"][1]["videoId"] = None
    send(bootstrap, b"{}", b'{"schema": 1, "toldAt": "now"}', json.dumps(partly).encode(), key="u", topic=UPDATES)
    odd += 3
    send(bootstrap, told("v4", schema=2), told("v5", schema=3), key="u", topic=UPDATES)
    huge: list[tuple[str, str | bytes | None]] = [("event-id", b"e" * 400_000), ("odd", None), ("odd", b"\xff" * 9)]
    send(bootstrap, done("u", "huge"), done("u", "repeated"), key="u", headers=huge)
    send(bootstrap, done("u", "good"), key="u", headers=[("event-id", None), ("event-id", b"")])

    with capture_logs() as logs, following(tmp_path, bootstrap, metrics):
        until_known(store, "u", "good")
        wait_for(lambda: follows(tmp_path), what="all is read")

    assert {*videos_of(store, "u")} == {"huge", "good", "v1", "v3"}
    assert metrics.counts[f"{Metric.LIVE_MALFORMED} reason:malformed"] == odd
    assert metrics.counts[f"{Metric.LIVE_MALFORMED} reason:newer_schema"] == 2
    assert f"{Metric.LIVE_MALFORMED} reason:defect" not in metrics.counts
    assert sum(line["event"] == "live.malformed" for line in logs) <= 2
    assert all("exc_info" not in line for line in logs)


def test_what_is_told_of_the_future_happened_now(tmp_path: Path, own_kafka: MockKafka) -> None:
    """Else no deletion would reach it, and no page would forget it."""
    machine(tmp_path)
    store = store_of(tmp_path)
    with following(tmp_path, own_kafka.bootstrap):
        send(own_kafka.bootstrap, done("u", "v1", at_ms=now_ms() + 10**10), key="u")
        until_known(store, "u", "v1")
    profile = store.known("u").profile
    assert profile
    assert profile.newest_at_ms <= now_ms()
    assert counted(store) == 1.0


@pytest.mark.parametrize("error", [KafkaException(KafkaError(KafkaError._FAIL)), ValueError("no token")])
def test_errors_of_the_client_neither_end_the_reading_nor_lose_anything(
    tmp_path: Path, own_kafka: MockKafka, error: Exception
) -> None:
    """What librdkafka's callbacks raise, such as those that sign in, comes out of the call that reads."""
    machine(tmp_path)
    store, raised = store_of(tmp_path), 0
    enough = False

    def fail_thrice(_: str) -> None:
        nonlocal raised
        if enough and raised < 3:
            raised += 1
            raise error

    client = {"bootstrap.servers": own_kafka.bootstrap, "statistics.interval.ms": 50, "stats_cb": fail_thrice}
    sent = 0
    with following(tmp_path, client):
        send(own_kafka.bootstrap, done("u", "first"), key="u")
        until_known(store, "u", "first")
        enough = True
        while raised < 3 or sent < 3:
            send(own_kafka.bootstrap, done("u", f"v{sent}"), key="u")
            sent += 1
            assert sent < 10_000
        until_known(store, "u", f"v{sent - 1}")
    assert videos_of(store, "u") == ["first", *(f"v{number}" for number in range(sent))]
    assert counted(store) == sent + 1.0


def test_a_restart_goes_on_from_the_stores_offsets(tmp_path: Path, own_kafka: MockKafka) -> None:
    """Whatever the topic holds: nothing is read again."""
    machine(tmp_path)
    bootstrap, store, metrics = own_kafka.bootstrap, store_of(tmp_path), CountedMetrics()
    with following(tmp_path, bootstrap, session="first"):
        for number in range(30):
            send(bootstrap, done(f"u{number}", "v1"), key=f"u{number}")
        wait_for(lambda: counted(store) == 30.0, what="all is counted")
    progress = store.progress()
    send(bootstrap, done("new", "v1"), key="new")
    with following(tmp_path, bootstrap, metrics, session="second") as follower:
        until_known(store, "new", "v1")
        starts = follower.reading and follower.reading.starts
    assert starts
    assert starts.stored == {place: offset for place, (offset, _) in progress.items()}
    assert {place: starts.offsets[place] for place in starts.stored} == starts.stored
    assert metrics.counts[Metric.LIVE_INTERACTIONS] == 1
    assert counted(store) == 31.0


def test_brokers_that_hang_make_blind_and_are_followed_when_they_answer(tmp_path: Path, own_kafka: MockKafka) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    assert own_kafka.child
    with following(tmp_path, own_kafka.bootstrap):
        send(own_kafka.bootstrap, done("u", "v1"), key="u")
        until_known(store, "u", "v1")
        wait_for(lambda: follows(tmp_path), what="following")
        own_kafka.child.suspend()
        try:
            wait_for(lambda: _state(tmp_path) is State.BLIND, what="blind", timeout_s=60)
            known_until_ms = read_status(store.folder).known_until_ms  # type: ignore[union-attr]  # it was there
            assert videos_of(store, "u") == ["v1"]
        finally:
            own_kafka.child.resume()
        wait_for(lambda: follows(tmp_path), what="following again", timeout_s=60)
        send(own_kafka.bootstrap, done("u", "v2"), key="u")
        until_known(store, "u", "v2")
        after = read_status(store.folder)
        assert after
        assert after.known_until_ms > known_until_ms


def _state(folder: Path) -> State | None:
    status = read_status(folder / "cache" / LIVE_STATE)
    return status.state if status else None


def test_brokers_that_are_away_at_the_start_are_followed_when_they_come(tmp_path: Path, own_kafka: MockKafka) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    assert own_kafka.child
    own_kafka.child.suspend()
    with following(tmp_path, own_kafka.bootstrap):
        try:
            wait_for(lambda: _state(tmp_path) is State.BLIND, what="blind")
        finally:
            own_kafka.child.resume()
        send(own_kafka.bootstrap, done("u", "v1"), key="u")
        until_known(store, "u", "v1")


def test_renewed_credentials_go_on_where_it_was(tmp_path: Path, own_kafka: MockKafka) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    good = {"bootstrap.servers": own_kafka.bootstrap}
    with following(tmp_path, good) as follower:
        send(own_kafka.bootstrap, done("u", "v1"), key="u")
        until_known(store, "u", "v1")
        follower.renew(
            {"bootstrap.servers": own_kafka.bootstrap, "ssl.ca.location": "/nowhere", "security.protocol": "ssl"}
        )
        send(own_kafka.bootstrap, done("u", "v2"), key="u")
        follower.renew(good)
        until_known(store, "u", "v2")
    assert videos_of(store, "u") == ["v1", "v2"]
    assert counted(store) == 2.0


def test_a_store_of_another_cluster_begins_anew_and_keeps_who_is_forgotten(
    tmp_path: Path, own_kafka: MockKafka
) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    other = MockKafka(tmp_path / "other-kafka")
    other.start()
    try:
        with following(tmp_path, own_kafka.bootstrap):
            send(own_kafka.bootstrap, done("u", "v1"), None, key="gone")
            send(own_kafka.bootstrap, done("u", "v1"), key="u")
            until_known(store, "u", "v1")
            wait_for(lambda: store.known("gone").forgotten_at_ms, what="forgotten")
        with following(tmp_path, other.bootstrap):
            send(other.bootstrap, done("u", "v2"), key="u")
            until_known(store, "u", "v2")
        assert videos_of(store, "u") == ["v2"]
        assert counted(store) == 1.0
        assert store.known("gone").forgotten_at_ms
    finally:
        other.stop()


def test_one_follower_works_in_a_folder_and_another_takes_over(tmp_path: Path, own_kafka: MockKafka) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    with following(tmp_path, own_kafka.bootstrap) as first:
        send(own_kafka.bootstrap, done("u", "v1"), key="u")
        until_known(store, "u", "v1")
        second = following(tmp_path, own_kafka.bootstrap)
        waiting = second.__enter__()
        try:
            send(own_kafka.bootstrap, done("u", "v2"), key="u")
            until_known(store, "u", "v2")
            assert waiting.reading
            assert waiting.reading.starts is None
        except BaseException:
            second.__exit__(None, None, None)
            raise
        assert first.reading
    send(own_kafka.bootstrap, done("u", "v3"), key="u")
    until_known(store, "u", "v3")
    second.__exit__(None, None, None)
    assert counted(store) == 3.0


def test_without_a_model_reading_begins_when_there_is_one(tmp_path: Path, own_kafka: MockKafka) -> None:
    store = store_of(tmp_path)
    send(own_kafka.bootstrap, done("u", "v1"), key="u")
    with following(tmp_path, own_kafka.bootstrap) as follower:
        wait_for(lambda: follower.reading and follower.reading.trouble == "no model is live yet", what="waits")
        machine(tmp_path, data_until=datetime.now(UTC) - timedelta(hours=1))
        until_known(store, "u", "v1")
