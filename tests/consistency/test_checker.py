"""The checker finds what it is there to find, and the system gives it nothing to find."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.kafka.choice import choose_kafka
from tests.consistency.cluster import running_cluster
from tests.consistency.history import SEVERAL, Acknowledged, History, check, duplicates, overtaken
from tests.consistency.nemesis import plan
from tests.consistency.run import run

GOOD = History(
    acknowledged=[Acknowledged("u", "1"), Acknowledged("w", "9"), Acknowledged("u", "2")],
    refused=0,
    rows=["1", "2", "9"],
    messages=[("u", "1"), ("u", "2"), ("u", "1"), ("w", "9")],
)


def test_good_history_is_valid() -> None:
    """A repeated message is no fault, as consumers know it by its event id."""
    assert check(GOOD).valid
    assert duplicates(GOOD) == 1


@pytest.mark.parametrize(
    ("rows", "messages", "fault"),
    [
        (["1", "9"], [("u", "1"), ("u", "2"), ("w", "9")], "lost_in_postgres"),
        (["1", "2", "9"], [("u", "1"), ("w", "9")], "lost_in_kafka"),
        (["1", "1", "2", "9"], [("u", "1"), ("u", "2"), ("w", "9")], "twice_in_postgres"),
        (["1", "2", "9", "5"], [("u", "1"), ("u", "2"), ("w", "9")], "only_in_one"),
        (["1", "2", "9"], [("u", "2"), ("u", "1"), ("w", "9")], "out_of_order"),
    ],
)
def test_each_fault_is_found(rows: list[str], messages: list[tuple[str, str]], fault: str) -> None:
    verdict = check(History(acknowledged=GOOD.acknowledged, refused=0, rows=rows, messages=messages))
    assert getattr(verdict, fault)
    assert not verdict.valid


def test_order_is_judged_for_each_bridge() -> None:
    """What one bridge acknowledged may come after what another did later: it is counted, and no fault."""
    moved = replace(GOOD, acknowledged=[Acknowledged("u", "2", 1), Acknowledged("u", "1", 2), Acknowledged("w", "9")])
    assert check(moved).valid
    assert overtaken(moved) == 1
    assert check(replace(moved, acknowledged=[replace(one, bridge=SEVERAL) for one in moved.acknowledged])).valid
    assert not check(replace(moved, acknowledged=[replace(one, bridge=2) for one in moved.acknowledged])).valid
    assert overtaken(GOOD) == 0


def test_altered_event_is_found() -> None:
    assert not check(replace(GOOD, altered=["2"])).valid


def test_seed_repeats_its_faults() -> None:
    assert plan(7, steps=20) == plan(7, steps=20) != plan(8, steps=20)
    assert plan(7, steps=20, bridges=2) == plan(7, steps=20, bridges=2)
    assert "kill bridge-2" in {fault.name for step in plan(7, steps=99, bridges=2) for fault in step}


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """One short run with real Postgres, Apache Kafka and bridge processes; `python -m tests.jepsen` makes long ones."""
    if choose_kafka().jars is None:
        pytest.skip("Apache Kafka cannot run here")
    with running_cluster(tmp_path) as cluster:
        result = run(cluster, 3, steps=3, pause_s=0.3)
    assert result.verdict.valid, result
    assert result.acknowledged > 100
