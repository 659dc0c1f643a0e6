"""What users do, from a real Kafka to the next page."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from deploy.local.kafka.mock import MockKafka
from recsvc.app import RecommendationServer
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.users.kafka_consumer import CONSUMER, TOPIC, InteractionConsumer
from recsvc.users.kafka_message import MAX_BYTES, MalformedError, UserInteraction, parse
from servicekit.storage.object_store import FileStore
from servicekit.telemetry.metrics import Metric, NoMetrics
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.audiences import CUT_OFF_MS
from tests.recsvc.support.calls import Client
from tests.recsvc.support.models import publish, random_model
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

pytestmark = pytest.mark.peer

LATER_MS = CUT_OFF_MS + 60_000
GOOD = {
    "userId": "u1",
    "videoId": "v1",
    "interactionType": "watch",
    "watchTime": 1200,
    "timestamp": "2025-09-02T00:01:00.000Z",
}


class CountedMetrics(NoMetrics):
    def __init__(self) -> None:
        self.counts: dict[Metric, int] = {}

    def count(self, metric: Metric, value: int = 1, *, tags: list[str] | None = None) -> None:  # noqa: ARG002  # bounded elsewhere
        self.counts[metric] = self.counts.get(metric, 0) + value


def test_a_message_is_an_interaction() -> None:
    assert parse(json.dumps(GOOD).encode()) == UserInteraction(
        user_id="u1", interaction=Interaction("v1", InteractionType.WATCH, LATER_MS, 1200)
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b'"text"',
        b"\xff",
        b"[" * 60_000,
        b'{"userId":' * 6_000,
        b"9" * 5_000,
        b'{"a":1}' + b" " * MAX_BYTES,
        *(json.dumps({name: given for name, given in GOOD.items() if name != missing}).encode() for missing in GOOD),
        *(
            json.dumps({**GOOD, **wrong}).encode()
            for wrong in (
                {"userId": ""},
                {"userId": 5},
                {"userId": True},
                {"userId": None},
                {"userId": ["u1"]},
                {"videoId": 1.5},
                {"watchTime": float("nan")},
                {"timestamp": "0001-01-01T00:00:00+23:59x"},
                {"videoId": "x" * 129},
                {"videoId": "\ud800"},
                {"interactionType": "dance"},
                {"interactionType": None},
                {"watchTime": -1},
                {"watchTime": 10**30},
                {"watchTime": 1.5},
                {"watchTime": True},
                {"watchTime": "9"},
                {"timestamp": "yesterday"},
                {"timestamp": "2025-09-02T00:01:00"},
                {"timestamp": 17},
            )
        ),
    ],
)
def test_a_malformed_message_is_told_apart(value: bytes | None) -> None:
    with pytest.raises(MalformedError):
        parse(value)


def test_the_stars_of_a_rating_stand_in_a_header() -> None:
    rated = json.dumps({**GOOD, "interactionType": "rating"}).encode()

    assert parse(rated, b"4.5").interaction == Interaction("v1", InteractionType.RATING, LATER_MS, 1200, 4.5)
    for wrong in (b"", b"many", b"-1", b"5.5", b"nan", b"\xff", b"1e400", b"1_0", "٣".encode()):
        with pytest.raises(MalformedError):
            parse(rated, wrong)


def send(
    bootstrap: str, *values: bytes | None, key: str, at_ms: int = LATER_MS, event_id: str = "", rating: str = ""
) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for value in values:
        headers: list[tuple[str, str | bytes | None]] = [("event-id", (event_id or str(uuid4())).encode())]
        headers += [("rating", rating)] if rating else []
        producer.produce(TOPIC, key=key, value=value, timestamp=at_ms, headers=headers)
    assert producer.flush(20) == 0


def done(user_id: str, video_id: str, kind: str = "like") -> bytes:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"userId": user_id, "videoId": video_id, "interactionType": kind, "watchTime": 0, "timestamp": moment}
    return json.dumps(fields).encode()


def now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


@contextmanager
def reading(bootstrap: str, since_ms: int, metrics: NoMetrics) -> Iterator[list[UserInteraction]]:
    got: list[UserInteraction] = []

    def receive(batch: Sequence[UserInteraction]) -> None:
        got.extend(batch)

    reader = InteractionConsumer({"bootstrap.servers": bootstrap}, lambda: since_ms, receive, metrics)
    reader.start()
    try:
        yield got
    finally:
        reader.stop()


def test_reading_begins_at_the_cut_off_and_takes_each_event_once(kafka_bootstrap: str) -> None:
    """Malformed messages and repeated deliveries are passed over, whatever stands around them."""
    user, since_ms, metrics = f"user-{uuid4()}", now_ms(), CountedMetrics()
    send(kafka_bootstrap, done(user, "old"), key=user, at_ms=since_ms - 86_400_000)
    send(kafka_bootstrap, *[done(user, "twice")] * 2, key=user, at_ms=since_ms, event_id=str(uuid4()))
    send(kafka_bootstrap, b"{", done(user, "last"), key=user, at_ms=since_ms + 1)

    with reading(kafka_bootstrap, since_ms, metrics) as got:
        wait_for(lambda: any(one.interaction.video_id == "last" for one in got), what="the last message")
        send(kafka_bootstrap, done(user, "live"), key=user, at_ms=now_ms())
        wait_for(lambda: any(one.interaction.video_id == "live" for one in got), what="the live message")

    videos = [one.interaction.video_id for one in got if one.user_id == user]
    assert [name for name in videos if name != "old"] == ["twice", "last", "live"]
    assert metrics.counts[Metric.LIVE_MALFORMED] >= 1
    assert metrics.counts[Metric.LIVE_INTERACTIONS] >= 5


def test_tombstone_forgets_its_user(kafka_bootstrap: str) -> None:
    """The key's fingerprint and the message's time are passed on; what came before it was read as ever."""
    user, since_ms, metrics = f"user-{uuid4()}", now_ms(), CountedMetrics()
    forgotten: dict[bytes, int] = {}
    got: list[UserInteraction] = []
    reader = InteractionConsumer(
        {"bootstrap.servers": kafka_bootstrap}, lambda: since_ms, got.extend, metrics, forget=forgotten.update
    )
    send(kafka_bootstrap, done(user, "before"), key=user, at_ms=since_ms)
    send(kafka_bootstrap, None, key=user, at_ms=since_ms + 7)
    reader.start()
    try:
        wait_for(lambda: user_fingerprint(user) in forgotten, what="the tombstone")
    finally:
        reader.stop()
    assert forgotten[user_fingerprint(user)] == since_ms + 7
    assert [one.interaction.video_id for one in got if one.user_id == user] in ([], ["before"])


def test_no_odd_message_costs_another_one_nor_a_tombstone(kafka_bootstrap: str) -> None:
    """All of them come in one batch, as they were there before the reading began."""
    user, since_ms, metrics = f"user-{uuid4()}", now_ms(), CountedMetrics()
    forgotten: list[bytes] = []
    got: list[UserInteraction] = []

    def forget(marks: Mapping[bytes, int]) -> None:
        forgotten.extend(marks)
        raise OSError("the disk is full")

    odd = [b"[" * 60_000, b"[" * 900_000, b"{", b"", b'{"userId": true}', b"\xff"]
    for value in odd:
        send(kafka_bootstrap, done(user, "before"), value, key=user, at_ms=since_ms)
    send(kafka_bootstrap, None, None, done(user, "after"), key=user, at_ms=since_ms)
    send(kafka_bootstrap, None, key="", at_ms=since_ms)
    reader = InteractionConsumer(
        {"bootstrap.servers": kafka_bootstrap}, lambda: since_ms, got.extend, metrics, forget=forget
    )
    reader.start()
    try:
        wait_for(lambda: any(one.interaction.video_id == "after" for one in got), what="the last message")
        wait_for(lambda: user_fingerprint(user) in forgotten, what="the tombstone")
    finally:
        reader.stop()
    videos = [one.interaction.video_id for one in got if one.user_id == user]
    assert videos == [*["before"] * len(odd), "after"]
    assert metrics.counts[Metric.LIVE_MALFORMED] >= len(odd)


def test_a_defect_in_one_batch_does_not_end_the_reading(kafka_bootstrap: str) -> None:
    user, since_ms = f"user-{uuid4()}", now_ms()
    got: list[str] = []

    def receive(batch: Sequence[UserInteraction]) -> None:
        names = [one.interaction.video_id for one in batch if one.user_id == user]
        if "poison" in names:
            got.append("poison")
            raise RuntimeError("a defect")
        got.extend(names)

    reader = InteractionConsumer({"bootstrap.servers": kafka_bootstrap}, lambda: since_ms, receive, NoMetrics())
    reader.start()
    try:
        send(kafka_bootstrap, done(user, "poison"), key=user, at_ms=since_ms)
        wait_for(lambda: "poison" in got, what="the poison")
        send(kafka_bootstrap, done(user, "good"), key=user, at_ms=since_ms)
        wait_for(lambda: "good" in got, what="what came after it")
    finally:
        reader.stop()


@pytest.mark.parametrize("error", [KafkaException(KafkaError(KafkaError._FAIL)), ValueError("no token")])
def test_errors_of_the_client_neither_end_the_reading_nor_lose_anything(kafka_bootstrap: str, error: Exception) -> None:
    """What librdkafka's callbacks raise, such as those that sign in, comes out of the call that reads."""
    user, since_ms = f"user-{uuid4()}", now_ms()
    got: list[UserInteraction] = []
    raised: list[int] = []

    def theirs() -> list[str]:
        return [one.interaction.video_id for one in got if one.user_id == user]

    def fail_thrice(_: str) -> None:
        if got and len(raised) < 3:
            raised.append(len(got))
            raise error

    client = {"bootstrap.servers": kafka_bootstrap, "statistics.interval.ms": 50, "stats_cb": fail_thrice}
    reader = InteractionConsumer(client, lambda: since_ms, got.extend, NoMetrics())
    sent = 0
    reader.start()
    try:
        deadline = time.monotonic() + 30
        while len(raised) < 3 and time.monotonic() < deadline:
            send(kafka_bootstrap, done(user, f"v{sent}"), key=user, at_ms=since_ms)
            sent += 1
        wait_for(lambda: len(theirs()) >= sent, what="all that was sent")
    finally:
        reader.stop()

    assert len(raised) == 3
    assert theirs() == [f"v{number}" for number in range(sent)]


class Interrupted(Consumer):
    """Raises where a callback would, after the first message."""

    armed = False

    def poll(self, timeout: float = -1) -> Any:
        if timeout == 0 and self.armed:
            self.armed = False
            raise ValueError("no token")
        return super().poll(timeout)


def test_an_error_after_the_first_message_does_not_lose_it(kafka_bootstrap: str) -> None:
    user, since_ms = f"user-{uuid4()}", now_ms()
    send(kafka_bootstrap, done(user, "v1"), key=user, at_ms=since_ms)
    reader = InteractionConsumer({}, lambda: since_ms, lambda _: None, NoMetrics())
    consumer = Interrupted({**CONSUMER, "bootstrap.servers": kafka_bootstrap})
    try:
        assert reader._assign(consumer, since_ms)
        consumer.armed = True
        found = wait_for(lambda: reader._messages(consumer), what="a message")
    finally:
        consumer.close()

    assert not consumer.armed, "it was interrupted"
    assert len(found) == 1


def test_what_a_user_did_changes_the_next_page(tmp_path: Path, kafka_bootstrap: str) -> None:
    """The videos are excluded, the vector follows, popularity is refreshed; after a restart all is known again."""
    user = f"user-{uuid4()}"
    publish(tmp_path / "store", random_model(3, version="3"))

    with served(tmp_path, "cache", kafka_bootstrap) as client:
        (best, *_) = shown(client, user)
        send(kafka_bootstrap, done(user, best), key=user, at_ms=now_ms())
        follows(client, user, best)
    with served(tmp_path, "another-cache", kafka_bootstrap) as client:
        follows(client, user, best)


def page(client: Client, user_id: str) -> pb.RecommendResponse:
    return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id, page_size=100), timeout=5)


def shown(client: Client, user_id: str) -> list[str]:
    return [video.video_id for video in page(client, user_id).videos]


def follows(client: Client, user: str, liked: str) -> None:
    """Wait until pages follow from the like: for the user, and by popularity for everybody."""
    model = random_model(3)
    trained = float((model.video_biases + model.prior())[model.videos.row(liked)])

    def score() -> float:
        request = pb.ScoreVideosRequest(user_id="a stranger", video_ids=[liked])
        return client.recommendations.ScoreVideos(request, timeout=5).scores[0].score

    wait_for(lambda: page(client, user).user_state == pb.USER_STATE_FOLDED_IN, what="folded in")
    assert liked not in shown(client, user)
    wait_for(lambda: score() != trained, what="a fresher score")


@contextmanager
def served(folder: Path, cache: str, bootstrap: str) -> Iterator[Client]:
    server = RecommendationServer(
        FileStore(folder / "store"),
        folder / cache,
        NoMetrics(),
        threads=4,
        poll_interval_s=0.05,
        kafka={"bootstrap.servers": bootstrap},
        freshness_interval_s=0.05,
    )
    with ExitStack() as parts:
        port = server.start("127.0.0.1:0")
        parts.callback(server.stop, 1)
        yield parts.enter_context(Client.to(port))


def test_pages_are_served_while_kafka_is_away_and_follow_it_when_it_comes(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(3, version="3"))
    kafka = MockKafka(tmp_path / "kafka")
    bootstrap = kafka.start()
    assert kafka.child
    try:
        kafka.child.suspend()
        with served(tmp_path, "cache", bootstrap) as client:

            def state(user_id: str) -> Any:
                return client.recommendations.Recommend(pb.RecommendRequest(user_id=user_id), timeout=5).user_state

            assert state("u1") == pb.USER_STATE_TRAINED
            kafka.child.resume()
            send(bootstrap, done("new", "v1"), key="new", at_ms=now_ms())
            wait_for(lambda: state("new") == pb.USER_STATE_FOLDED_IN, what="folded in")
    finally:
        kafka.stop()
