"""One run: clients record while faults are injected, then everything is read back and judged."""

import time
from dataclasses import dataclass
from typing import Final

from tests.consistency.clients import Client
from tests.consistency.cluster import Cluster
from tests.consistency.history import Verdict, check, duplicates, overtaken
from tests.consistency.nemesis import Nemesis, plan
from tests.consistency.readback import Stores, Told, settled
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
    users = {f"{prefix}-{n}-{suffix}" for n in range(CLIENTS) for suffix in ("0", "1", "2", "stream")}
    stores = Stores(cluster.kafka.bootstrap, cluster.database_url)
    history = settled(stores, _told(clients), users, timeout_s=SETTLE_S)
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


def _told(clients: list[Client]) -> Told:
    return Told(
        acknowledged=[one for client in clients for one in client.acknowledged],
        refused=sum(client.refused for client in clients),
        sent={event_id: watched for client in clients for event_id, watched in client.sent.items()},
    )
