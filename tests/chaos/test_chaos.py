"""The short form of the chaos run; `make chaos` makes the long one, with Apache Kafka and pairs of nemeses."""

from collections.abc import Iterator
from typing import Final

import pytest

from deploy.local.kafka.mock import MockKafka
from recsvc.cores import usable_cores
from tests.chaos.chaos import Chaos, pairs
from tests.chaos.nemeses.kinds import NEMESES, summary
from tests.chaos.nemeses.nemesis import Nemesis
from tests.chaos.system.cluster import running_cluster

SEED: Final = 1
STRIKE_S: Final = 1.0
PATIENCE_S: Final = 30.0
RATE: Final = 100.0 if usable_cores() > 1 else 25.0
"""Pages, and interactions, a second: the load itself takes a third of a core at 100."""
WINDOW: Final = 40


@pytest.fixture(scope="module")
def chaos() -> Iterator[Chaos]:
    """A system under load that goes on from test to test."""
    with running_cluster(MockKafka, pages=RATE, interactions=RATE, seed=SEED) as cluster:
        chaos = Chaos(cluster, SEED, STRIKE_S, PATIENCE_S, WINDOW)
        chaos.warm_up()
        yield chaos


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", NEMESES, ids=lambda kind: kind.name.replace(" ", "-"))
def test_the_feed_holds(chaos: Chaos, kind: type[Nemesis]) -> None:
    """Every call is answered as promised, no process dies, and all is as it was afterwards."""
    result = chaos.strike([kind])
    if isinstance(result, str):
        pytest.skip(result)
    assert not result.faults(judge=False)


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost(chaos: Chaos) -> None:
    """What the tests before have left behind: each acknowledged event once in Postgres, and in Kafka."""
    verdict = chaos.end()
    assert verdict.valid
    assert len(chaos.cluster.told().acknowledged) > RATE


def test_each_nemesis_has_a_name_and_a_summary() -> None:
    assert len({kind.name for kind in NEMESES}) == len(NEMESES)
    assert all(summary(kind) for kind in NEMESES)


def test_a_seed_repeats_its_pairs() -> None:
    assert [*pairs(NEMESES, 7)] == [*pairs(NEMESES, 7)] != [*pairs(NEMESES, 8)]
