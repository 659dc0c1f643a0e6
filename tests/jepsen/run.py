"""One run: clients record while faults are injected, then everything is read back and judged."""

import time
from dataclasses import dataclass
from typing import Final

import psycopg

from bridge.message import INTERACTIONS_TOPIC
from tests.bridge.topic import read_topic
from tests.jepsen.clients import Client
from tests.jepsen.cluster import Cluster
from tests.jepsen.history import History, Verdict, check, duplicates, overtaken
from tests.jepsen.nemesis import Nemesis, plan
from tests.support.polling import wait_for

CLIENTS: Final = 3
WARM: Final = 100
"""Acknowledgements before the first fault."""
SETTLE_S: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a run showed."""

    seed: int
    seconds: float
    acknowledged: int
    refused: int
    duplicates: int
    swallowed: int
    clipped: int
    overtaken: int
    verdict: Verdict


def run(cluster: Cluster, seed: int, *, steps: int, pause_s: float = 0.5, loud: bool = False) -> Result:
    """Run the plan of a seed and judge it."""
    started = time.monotonic()
    cluster.start_run()
    prefix = f"{seed}-{int(time.time())}"
    addresses = [f"127.0.0.1:{bridge.clients.port}" for bridge in cluster.bridges]
    clients = [Client(addresses, number, f"{prefix}-{number}", seed) for number in range(CLIENTS)]
    swallowed, clipped = cluster.kafka_link.swallowed, _clipped(cluster)
    running = [cluster.loop.spawn(client.run()) for client in clients]
    wait_for(lambda: sum(len(client.acknowledged) for client in clients) > WARM, timeout_s=SETTLE_S, what="traffic")
    Nemesis(cluster, loud=loud).run(plan(seed, steps=steps, bridges=len(cluster.bridges)), pause_s=pause_s)
    for client in clients:
        client.stopping = True
    for one in running:
        one.result(60)
    history = _settled(cluster, clients, prefix)
    cluster.end_run()
    return Result(
        seed=seed,
        seconds=time.monotonic() - started,
        acknowledged=len(history.acknowledged),
        refused=history.refused,
        duplicates=duplicates(history),
        swallowed=cluster.kafka_link.swallowed - swallowed,
        clipped=_clipped(cluster) - clipped,
        overtaken=overtaken(history),
        verdict=check(history),
    )


def _clipped(cluster: Cluster) -> int:
    return sum(link.clipped for link in cluster.links.values())


def _settled(cluster: Cluster, clients: list[Client], prefix: str) -> History:
    """Read everything back as soon as both sides hold the same events, or when that takes too long."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        history = _history(cluster, clients, prefix)
        same = {event_id for _, event_id in history.messages} == set(history.rows)
        if (same and not _outbox_depth(cluster)) or time.monotonic() > deadline:
            return history
        time.sleep(0.5)


def _history(cluster: Cluster, clients: list[Client], prefix: str) -> History:
    users = {f"{prefix}-{n}-{suffix}" for n in range(CLIENTS) for suffix in ("0", "1", "2", "stream")}
    records = read_topic(cluster.kafka.bootstrap, INTERACTIONS_TOPIC, users)
    with psycopg.connect(cluster.database_url) as connection:
        rows = connection.execute("SELECT event_id::text, user_id, watch_time_ms FROM user_interactions").fetchall()
    sent = {event_id: watched for client in clients for event_id, watched in client.sent.items()}
    found = [(event_id, watched) for event_id, user, watched in rows if user in users]
    found += [(record.headers["event-id"], record.value["watchTime"]) for record in records]
    return History(
        acknowledged=[one for client in clients for one in client.acknowledged],
        refused=sum(client.refused for client in clients),
        rows=[event_id for event_id, user, _ in rows if user in users],
        messages=[(record.key, record.headers["event-id"]) for record in records],
        altered=[event_id for event_id, watched in found if sent.get(event_id) != watched],
    )


def _outbox_depth(cluster: Cluster) -> int:
    with psycopg.connect(cluster.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM interactions_outbox").fetchone()
    return int(row[0]) if row else 0
