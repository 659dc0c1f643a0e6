"""Topics that come, grow, lose their oldest messages, go and come again, on a broker of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]  # they are public

from deploy.local.kafka.choice import choose_kafka
from recsvc.follower.topics.message import INTERACTIONS, UPDATES
from servicekit.telemetry.metrics import Metric
from tests.recsvc.support.followers import (
    CountedMetrics,
    counted,
    done,
    following,
    follows,
    machine,
    send,
    store_of,
    told,
    until_known,
    videos_of,
)
from tests.support.polling import wait_for

pytestmark = pytest.mark.peer

PARTITIONS = 2


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker whose topics may change: Apache Kafka, as the mock cluster's stay as they were made."""
    choice = choose_kafka()
    if choice.jars is None:
        pytest.skip("the mock cluster changes no topics")
    server = choice.over(tmp_path_factory.mktemp("changes") / "kafka")
    yield server.start()
    server.stop()


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    """No topic that is followed, and whoever makes them."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    remove(client, INTERACTIONS, UPDATES)
    return client


def remove(client: AdminClient, *topics: str) -> None:
    there = [name for name in topics if name in client.list_topics(timeout=10).topics]
    for outcome in client.delete_topics(there, operation_timeout=10).values() if there else ():
        outcome.result()
    wait_for(lambda: not {*topics} & {*client.list_topics(timeout=10).topics}, what="the topics are gone")


def make(client: AdminClient, *topics: str) -> None:
    for outcome in client.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics]).values():
        outcome.result()
    wait_for(lambda: {*topics} <= {*client.list_topics(timeout=10).topics}, what="the topics are there")


def test_a_topic_that_is_made_later_and_its_new_partitions_are_read(
    tmp_path: Path, bootstrap: str, admin: AdminClient
) -> None:
    machine(tmp_path)
    store = store_of(tmp_path)
    with following(tmp_path, bootstrap):
        make(admin, UPDATES)
        send(bootstrap, told("v1"), key="u", topic=UPDATES)
        until_known(store, "u", "v1")
        make(admin, INTERACTIONS)
        send(bootstrap, done("u", "v2"), key="u")
        until_known(store, "u", "v2")

        for outcome in admin.create_partitions([NewPartitions(INTERACTIONS, 3 * PARTITIONS)]).values():
            outcome.result()
        wait_for(
            lambda: len(admin.list_topics(INTERACTIONS, timeout=10).topics[INTERACTIONS].partitions) == 3 * PARTITIONS,
            what="more partitions",
        )
        for number in range(30):
            send(bootstrap, done(f"user-{number}", "v3"), key=f"user-{number}")
        for number in range(30):
            until_known(store, f"user-{number}", "v3")
    assert {partition for topic, partition in store.progress() if topic == INTERACTIONS} > set(range(PARTITIONS))
    assert counted(store) == 31.0


def test_what_retention_took_is_counted_and_the_rest_is_read(
    tmp_path: Path, bootstrap: str, admin: AdminClient
) -> None:
    machine(tmp_path)
    make(admin, INTERACTIONS, UPDATES)
    store, metrics = store_of(tmp_path), CountedMetrics()
    with following(tmp_path, bootstrap):
        send(bootstrap, done("u", "v1"), key="u")
        until_known(store, "u", "v1")
    send(bootstrap, *(done("u", f"lost-{number}") for number in range(5)), key="u")
    partition = next(place[1] for place in store.progress())
    for outcome in admin.delete_records([TopicPartition(INTERACTIONS, partition, 6)]).values():
        outcome.result()
    send(bootstrap, done("u", "v2"), key="u")
    with following(tmp_path, bootstrap, metrics):
        until_known(store, "u", "v2")
        wait_for(lambda: metrics.counts.get(Metric.LIVE_MISSED) == 5, what="told of what was lost")
    assert videos_of(store, "u") == ["v1", "v2"]


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    tmp_path: Path, bootstrap: str, admin: AdminClient
) -> None:
    machine(tmp_path)
    make(admin, INTERACTIONS, UPDATES)
    store = store_of(tmp_path)
    with following(tmp_path, bootstrap):
        send(bootstrap, *(done("u", f"v{number}") for number in range(5)), key="u")
        until_known(store, "u", "v4")
        remove(admin, INTERACTIONS)
        make(admin, INTERACTIONS)
        send(bootstrap, done("u", "new"), key="u")
        until_known(store, "u", "new")
        wait_for(lambda: follows(tmp_path), what="following", timeout_s=60)
        send(bootstrap, done("u", "newer"), key="u")
        until_known(store, "u", "newer")
