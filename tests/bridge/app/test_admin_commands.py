"""Commands for operators, as processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from bridge.kafka.message import INTERACTIONS_TOPIC
from bridge.kafka.topics import Topic, ensure_topics
from deploy.local.kafka.choice import KafkaChoice, choose_kafka
from deploy.local.postgres import Postgres
from servicekit.user_fingerprint import user_fingerprint
from tests.bridge.support.events import drained, event, published, record, recorded
from tests.bridge.support.ingestion import running_ingestion
from tests.bridge.support.topic import read_topic

ROOT = Path(__file__).parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def choice() -> KafkaChoice:
    return choose_kafka()


@pytest.fixture
def run(postgres_url: str, kafka_bootstrap: str) -> Run:
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    environment |= {"DATABASE_URL": postgres_url, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}

    def start(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "bridge", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment | more, capture_output=True, text=True, check=False, timeout=60
        )

    return start


def test_topics_are_made_once(choice: KafkaChoice, kafka_bootstrap: str) -> None:
    """The first call makes a topic, the second finds it well, a third with other wishes says what differs."""
    if choice.jars is None:
        pytest.skip("the mock cluster makes no topics on request")
    client: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka_bootstrap}
    name = f"test.{uuid4()}"
    config = {"retention.ms": "604800000", "compression.type": "snappy"}
    wanted = Topic(name=name, partitions=3, replication=1, config=config)
    (first,) = ensure_topics(client, [wanted])
    assert first.created
    (second,) = ensure_topics(client, [wanted])
    assert (second.created, second.differences) == (False, ())
    other = Topic(name=name, partitions=6, replication=3, config={"retention.ms": "1", "compression.type": "snappy"})
    (third,) = ensure_topics(client, [other])
    assert third.differences == (
        "partitions: 3, should be 6",
        "replication: 1, should be 3",
        "retention.ms: 604800000, should be 1",
    )


def test_topics_command_reports_differences(choice: KafkaChoice, run: Run) -> None:
    """Topics of a single broker are not as production wants them: each difference is named, and the status says so."""
    if choice.jars is None:
        pytest.skip("the mock cluster describes no topics")
    done = run("topics", KAFKA_REPLICATION="1")
    again = run("topics", KAFKA_REPLICATION="3")
    assert (again.returncode, again.stderr) == (1, "")
    assert "feed.interactions.v1 " in done.stdout
    assert "replication: 1, should be 3" in again.stdout
    assert "processed_features" in again.stdout


def test_topics_command_without_brokers(run: Run) -> None:
    assert run("topics", KAFKA_BOOTSTRAP_SERVERS="").stderr == "error: KAFKA_BOOTSTRAP_SERVERS is not set\n"


async def test_erasure(postgres_url: str, kafka_bootstrap: str, run: Run) -> None:
    """The user's rows are gone, others' are not, and a tombstone with the user's key stands behind the messages."""
    gone, other = f"gone-{uuid4()}", f"other-{uuid4()}"
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        sent = event(gone)
        await record(running, sent)
        await record(running, event(other))
        await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, gone)
    done = run("erase", "--user", gone)
    assert done.returncode == 0, done.stderr
    assert "user_interactions            1 rows deleted" in done.stdout
    assert "tombstones                   sent" in done.stdout
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        assert await running.rows("SELECT 1 FROM user_interactions WHERE user_id = %s", gone) == []
        assert len(await recorded(running, 1, other)) == 1
        records = await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, gone)
        assert [one.value is None for one in records] == [False, True]
        (tombstone,) = read_topic(kafka_bootstrap, "playback.session-ended", {gone})
        assert tombstone.value is None
        await record(running, sent)
        assert await running.rows("SELECT 1 FROM user_interactions WHERE user_id = %s", gone) == []


async def test_a_dry_run_of_an_erasure_deletes_nothing(postgres_url: str, kafka_bootstrap: str, run: Run) -> None:
    """It says what would be deleted, and which exports have the user's rows."""
    user, yesterday = f"user-{uuid4()}", datetime.now(UTC) - timedelta(days=1)
    async with running_ingestion(postgres_url, kafka_bootstrap) as running:
        for occurred_at in (yesterday, datetime.now(UTC)):
            interaction = event(user)
            interaction.timestamp.FromDatetime(occurred_at)
            await record(running, interaction)
        await drained(running)
        done = run("erase", "--user", user, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "user_interactions            2 rows would be deleted\n" in done.stdout
        assert "tombstones                   6 would be sent\n" in done.stdout
        day = yesterday.date()
        assert f"exports                      1 days from {day} to {day} may still hold 1 rows\n" in done.stdout
        assert len(await recorded(running, 2, user)) == 2
        assert await running.rows("SELECT 1 FROM interactions_outbox WHERE aggregateid = %s", user) == []


def test_a_dry_run_makes_no_schema(postgres_server: Postgres, run: Run) -> None:
    """It says what to do, and leaves the database as it is; so does one for which the schema is too old."""
    url = postgres_server.create_database(f"dry_{uuid4().hex}")
    done = run("erase", "--user", "u1", "--dry-run", DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the schema is not made yet, and ")
    assert done.stderr.endswith(" is needed: run `python -m bridge migrate` first\n")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE bridge_schema_version (version_num text)")
        connection.execute("INSERT INTO bridge_schema_version VALUES ('0001')")
    done = run("erase", "--user", "u1", "--dry-run", DATABASE_URL=url)
    assert done.stderr.startswith("error: the schema is of revision 0001, and ")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM bridge_schema_version").fetchall() == [("0001",)]


async def test_a_user_whom_nobody_knows_is_not_erased(postgres_url: str, kafka_bootstrap: str, run: Run) -> None:
    """As one whose name was mistyped; by force tombstones are sent, after which the name is known."""
    user = f"mistyped-{uuid4()}"
    for options in ([], ["--dry-run"]):
        done = run("erase", "--user", user, *options)
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith(f"user '{user}' was not found: ")
    assert read_topic(kafka_bootstrap, INTERACTIONS_TOPIC, {user}) == []
    async with running_ingestion(postgres_url, None) as running:
        assert await running.rows("SELECT 1 FROM erased_users WHERE mark = %s", user_fingerprint(user)) == []
    assert run("erase", "--user", user, "--force").returncode == 0
    (tombstone,) = read_topic(kafka_bootstrap, INTERACTIONS_TOPIC, {user})
    assert tombstone.value is None
    again = run("erase", "--user", user, "--dry-run")
    assert again.returncode == 0
    assert again.stdout.startswith("erased before ")


@pytest.mark.parametrize("command", ["", "serve", "migrate", "topics", "erase", "dead-letters", "replay"])
def test_each_command_tells_its_options_and_settings(run: Run, command: str) -> None:
    done = run(*[command] * bool(command), "--help")
    assert (done.returncode, "BRIDGE_LISTEN" in done.stdout) == (0, True), done.stderr
    assert ("--user ID" in done.stdout) is (command == "erase")


def test_erase_needs_a_user(run: Run) -> None:
    assert run("erase").returncode == 2
    assert "unrecognized arguments: --user u" in run("serve", "--user", "u").stderr
    assert "unrecognized arguments: --dry-run" in run("migrate", "--dry-run").stderr
    assert "--user: must not contain control characters" in run("erase", "--user", "u\n").stderr
