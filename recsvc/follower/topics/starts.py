"""Finds the first offset to read of each partition: the store's own, or that of the end of the live model's data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import structlog

from recsvc.follower.topics.cluster import Cluster, Ground
from recsvc.follower.topics.gathering import Place
from recsvc.live_state.preparation import begin_anew
from recsvc.live_state.store import LiveStore

CLUSTER: Final = "kafka-cluster"
"""What the store notes of whose offsets it has."""
SYNCED_PATIENCE_S: Final = 5.0

logger = structlog.get_logger(__name__)


class Starts(NamedTuple):
    """The first offset to read of each partition.

    Attributes:
        offsets: Of each partition to read.
        stored: Of each that the store has read before.
        open: Partitions that wait until somebody knows where the live model's data end.
        missed: Records that retention took before they were read.
    """

    offsets: dict[Place, int]
    stored: dict[Place, int]
    open: list[Place]
    missed: int = 0


Restore = Callable[[Ground, Mapping[Place, int], Mapping[Place, int]], None]
"""Given what the cluster holds, from the first to the last offsets, lets a snapshot take an empty store's place."""


def find_starts(
    cluster: Cluster, ground: Ground, store: LiveStore, cut_off_ms: int | None, restore: Restore | None = None
) -> Starts:
    """Return the first offset to read of each partition; KafkaException or StoreError where it is unknown now.

    A store of another cluster, or of a topic that was made anew since, begins anew. One that has read nothing yet
    begins with a snapshot where there is one.
    """
    noted = store.about().get(CLUSTER)
    if noted is not None and noted != ground.cluster_id:
        _begin_anew(store, f"its offsets are those of cluster {noted}")
        noted = None
    stored = _stored(store, ground.places)
    if beyond := _beyond(stored, cluster.ends(stored)):
        _begin_anew(store, "{} {} was made anew".format(*beyond))
        noted, stored = None, {}
    if not stored and restore and ground.places:
        restore(ground, cluster.beginnings(ground.places), cluster.ends(ground.places))
        stored, noted = _stored(store, ground.places), store.about().get(CLUSTER)
    if noted is None:
        with store.writing(patience_s=SYNCED_PATIENCE_S) as batch:
            batch.describe(CLUSTER, ground.cluster_id)
    firsts = cluster.beginnings(stored)
    passed = {place: firsts[place] for place, offset in stored.items() if firsts[place] > offset}
    missed = sum(first - stored[place] for place, first in passed.items())
    if passed:
        _skip(store, passed)
    stored |= passed
    offsets = dict(stored)
    new = [place for place in ground.places if place not in stored]
    if new and cut_off_ms is not None:
        offsets |= _since(cluster, new, cut_off_ms)
        new = []
    if missed:
        logger.warning("live.records_missed", records=missed)
    return Starts(offsets, stored, new, missed)


def _skip(store: LiveStore, passed: Mapping[Place, int]) -> None:
    """Skip the records that are gone; the time until which the partition was read stays as it is."""
    progress = store.progress()
    with store.writing(patience_s=SYNCED_PATIENCE_S) as batch:
        for place, first in passed.items():
            batch.advance(*place, first, progress[place][1])


def _begin_anew(store: LiveStore, reason: str) -> None:
    logger.warning("live.begins_anew", reason=reason)
    begin_anew(store)


def _stored(store: LiveStore, places: Iterable[Place]) -> dict[Place, int]:
    progress = store.progress()
    return {place: progress[place][0] for place in places if place in progress}


def _beyond(stored: Mapping[Place, int], ends: Mapping[Place, int]) -> Place | None:
    return next((place for place, offset in stored.items() if offset > ends[place]), None)


def _since(cluster: Cluster, places: list[Place], at_ms: int) -> dict[Place, int]:
    """Return the offset of the first message after a time in each partition.

    One that holds nothing as late, or whose broker cannot tell, is read as a whole: what is older changes little.
    """
    found = cluster.since(places, at_ms)
    unknown = [place for place, offset in found.items() if offset < 0]
    return found | cluster.beginnings(unknown)
