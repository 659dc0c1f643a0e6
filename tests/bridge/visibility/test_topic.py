"""What bridges learn from the topic alone, and what odd records do to them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from bridge.kafka.message import DEAD_LETTER_TOPIC
from bridge.kafka.topics import CATALOGUE_TOPIC
from bridge.visibility.changes import Kind
from bridge.visibility.topic_reader import TopicReader
from servicekit.process.ports import free_port
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.catalogue.support.catalogue_bridge import running_catalogue
from tests.bridge.support.fault_server import FaultServer, running_fault_server
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer
from videowindow.feed.v1 import catalogue_pb2 as pb

NOBODY = "127.0.0.1:1"


def nowhere() -> str:
    """Return the URL of a Postgres that is not there."""
    return f"postgresql://nobody:none@127.0.0.1:{free_port()}/none"


@pytest.fixture
async def recsvc() -> AsyncIterator[FaultServer]:
    async with running_fault_server() as faults:
        yield faults


def send(bootstrap: str, *records: tuple[str, Any]) -> None:
    """Send records to the topic, and return once they are there."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for key, value in records:
        producer.produce(CATALOGUE_TOPIC, value, key)
    assert producer.flush(20) == 0


async def test_a_bridge_that_reaches_kafka_alone_knows_all(
    postgres_url: str, kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Hides, restorations, limits and authors, though records of before wait in the outbox."""
    name, author = f"v-{uuid4()}", f"a-{uuid4()}"
    async with (
        running_catalogue(postgres_url, kafka_bootstrap, tmp_path / "a", NOBODY) as one,
        running_catalogue(nowhere(), kafka_bootstrap, tmp_path / "b", NOBODY, wait_for_schema=False) as other,
    ):
        await one.upsert(pb.CatalogueVideo(video_id=name, author_id=author))
        hide = (await one.hide(name))[0].hidden
        await other.until_hidden(name)
        assert (await one.restore(name, hide.revision)).restored.changed
        await other.until_shown(name)
        hide = (await one.hide_authors(author))[0].hidden
        await until(lambda: other.hidden.set.is_hidden(Kind.AUTHOR, author))
        assert other.hidden.bars("")("of this author", author)
        await one.restore_author(author, hide.revision)
        await until(lambda: not other.hidden.set.is_hidden(Kind.AUTHOR, author))
        await one.upsert(pb.CatalogueVideo(video_id=name, denied_countries=["DE"]))
        await until(lambda: other.hidden.bars("DE")(name, ""))
        await one.upsert(pb.CatalogueVideo(video_id=name))
        await until(lambda: not other.hidden.bars("DE")(name, ""))
        assert not (await other.page()).HasField("hidden_as_of")


async def test_authors_whose_videos_are_not_known_are_left_to_recsvc(
    kafka_bootstrap: str, tmp_path: Path, recsvc: FaultServer
) -> None:
    """And what is trending is known by its authors; with very many of them, pages are of that alone."""
    hidden = {"reason": "r", "actor": "a", "since": "2026-01-01T00:00:00Z", "revision": 1}
    async with running_catalogue(
        nowhere(), kafka_bootstrap, tmp_path / "a", recsvc.address, wait_for_schema=False
    ) as bridge:
        names = [f"ta0-{uuid4()}" for _ in range(101)]

        def record(name: str) -> tuple[str, str]:
            return f"author:{name}", json.dumps({"schema": 1, "authorId": name, "revision": 1, "hidden": hidden})

        send(kafka_bootstrap, record(names[0]))
        await until(lambda: bridge.hidden.set.is_hidden(Kind.AUTHOR, names[0]))
        await bridge.page()
        assert names[0] in [*recsvc.requests[-1].filter.none_author_ids]
        send(kafka_bootstrap, *map(record, names))
        await until(lambda: bridge.hidden.set.is_hidden(Kind.AUTHOR, names[-1]))
        assert (await bridge.page()).algorithm == "trending"


async def test_odd_records_are_counted_buried_and_passed_over(
    kafka_bootstrap: str, tmp_path: Path, dogstatsd: DogStatsdServer
) -> None:
    mark = str(uuid4())
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    good = {"schema": 1, "videoId": mark, "revision": 10**15, "hidden": {"hideId": "x"}, "novel": 1}
    async with running_catalogue(
        nowhere(), kafka_bootstrap, tmp_path / "a", NOBODY, metrics=metrics, wait_for_schema=False
    ) as bridge:
        send(
            kafka_bootstrap,
            (f"video:{mark}", b"\xff\xfe"),
            (f"video:{mark}", "{}"),
            (f"odd:{mark}", json.dumps(good)),
            (f"video:{mark}", json.dumps(good | {"schema": 2})),
            (f"video:{mark}", None),
            (f"video:{mark}", json.dumps(good)),
        )
        await bridge.until_hidden(mark)

        def counts(metric: str, tag: str = "") -> float:
            packets = dogstatsd.packets(metric)
            return sum(sum(one.values) for one in packets if not tag or tag in one.tags)

        await until(lambda: counts("feed.catalogue.odd_records", "reason:malformed") >= 3)
        await until(lambda: counts("feed.catalogue.odd_records", "reason:newer") >= 1)
        await until(lambda: counts("feed.catalogue.unknown_fields") >= 1)

        def buried() -> bool:
            keys = {f"video:{mark}", f"odd:{mark}"}
            letters = read_topic(kafka_bootstrap, DEAD_LETTER_TOPIC, keys, decode=bytes)
            return len(letters) >= 4 and {one.headers["__connect.errors.topic"] for one in letters} == {CATALOGUE_TOPIC}

        await until(buried)
    metrics.close()


async def test_reading_goes_on_where_it_ended(kafka_bootstrap: str, tmp_path: Path) -> None:
    mark = str(uuid4())
    state = {"schema": 1, "videoId": mark, "revision": 1, "hidden": {}}
    send(kafka_bootstrap, (f"video:{mark}", json.dumps(state)))
    async with running_catalogue(nowhere(), kafka_bootstrap, tmp_path / "a", NOBODY, wait_for_schema=False) as bridge:
        await bridge.until_hidden(mark)
        offsets = dict(bridge.hidden.set.offsets)
    reader = TopicReader({"bootstrap.servers": kafka_bootstrap}, offsets)
    try:
        found, steps = [], 0
        while steps < 200:
            batch = await reader.read()
            found += batch.records
            steps += 1
            if batch.in_step:
                break
        assert not [record for record in found if record.key == f"video:{mark}"]
    finally:
        await reader.close()
    async with running_catalogue(nowhere(), NOBODY, tmp_path / "a", NOBODY, wait_for_schema=False) as bridge:
        assert bridge.hides(mark)
        assert bridge.hidden.as_of is not None
