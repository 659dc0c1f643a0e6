"""The peers that everything else is tested against are real, and come back after a failure."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Message, Producer

from deploy.local.kafka.choice import choose_kafka
from deploy.local.kafka.mock import MockKafka
from deploy.local.kafka.topics import TOPICS, create_topics
from deploy.local.postgres import DATABASE, Postgres

pytestmark = pytest.mark.process

TOPIC = "feed.interactions.v1"


def publish(bootstrap: str, key: str) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "compression.type": "snappy"})
    producer.produce(
        TOPIC, key=key, value=b"{}", headers={"event-id": b"1"}, on_delivery=lambda e, _: failures.append(e)
    )
    producer.flush(30)
    assert failures == [None]


def find(bootstrap: str, key: str) -> Iterator[Message]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe([TOPIC])
    try:
        while True:
            message = consumer.poll(1)
            if message and not message.error() and message.key() == key.encode():
                yield message
    finally:
        consumer.close()


def test_postgres_keeps_committed_rows_over_a_kill(own_postgres: Postgres) -> None:
    url = own_postgres.url(DATABASE)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    assert own_postgres.child
    own_postgres.child.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    assert own_postgres.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(1,)]


def test_postgres_hangs_while_it_is_suspended(own_postgres: Postgres) -> None:
    url = own_postgres.url(DATABASE)
    assert own_postgres.child
    with psycopg.connect(url) as connection:
        own_postgres.child.suspend()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(url, connect_timeout=2)
        own_postgres.child.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_refuses_a_wrong_password(own_postgres: Postgres) -> None:
    url = own_postgres.url(DATABASE).replace("videowindow:", "videowindow:not-", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_a_message_reaches_an_independent_consumer(kafka_bootstrap: str) -> None:
    key = uuid4().hex
    publish(kafka_bootstrap, key)
    message = next(find(kafka_bootstrap, key))
    assert (message.value(), message.headers()) == (b"{}", [("event-id", b"1")])


def test_the_broker_has_the_topics_of_the_system(kafka_bootstrap: str) -> None:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415  # only here

    known = AdminClient({"bootstrap.servers": kafka_bootstrap}).list_topics(timeout=10).topics
    assert {name: len(known[name].partitions) for name in TOPICS} == TOPICS


def test_the_mock_cluster_carries_messages_too(own_kafka: MockKafka) -> None:
    publish(own_kafka.bootstrap, "u1")
    assert next(find(own_kafka.bootstrap, "u1")).headers() == [("event-id", b"1")]


def test_apache_kafka_keeps_messages_over_a_kill(tmp_path: Path) -> None:
    choice = choose_kafka()
    if choice.jars is None:
        pytest.skip(choice.title)
    kafka = choice.over(tmp_path / "kafka")
    bootstrap = kafka.start()
    try:
        publish(bootstrap, "u1")
        assert kafka.child
        kafka.child.kill()
        assert kafka.start() == bootstrap
        assert next(find(bootstrap, "u1")).value() == b"{}"
    finally:
        kafka.stop()


def test_without_java_the_mock_cluster_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    choice = choose_kafka()
    assert choice.title == "librdkafka's mock cluster (3 brokers, in memory), as java is not installed"
    assert isinstance(choice.over(tmp_path), MockKafka)


def test_when_maven_fails_the_mock_cluster_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-fetched stays in the cache."""
    for name, script in (
        ("java", "echo 'openjdk version \"21.0.1\"' >&2"),
        ("mvn", "mkdir libs; echo '[ERROR] offline'; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    choice = choose_kafka()
    assert choice.title.endswith("as mvn could not fetch Apache Kafka: [ERROR] offline")
    assert list((tmp_path / "cache" / "video-window").iterdir()) == []


def test_topics_are_made_once(kafka_bootstrap: str) -> None:
    create_topics(kafka_bootstrap, timeout_s=10)
    create_topics(kafka_bootstrap, timeout_s=10)
