"""Removes old versions and reports; never the live version, its parent, or one that is being published."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from modelstore.artefact import MANIFEST, ArtefactError
from modelstore.registry import Registry
from retrain.publishing.publish import REJECTED, live_version
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

logger = structlog.get_logger("retrain")

_NAME: Final = re.compile(r"(?P<until>\d{8}T\d{6}Z)-[0-9a-f]+-[0-9a-f]+")
UNFINISHED: Final = timedelta(days=14)
"""Uploads without a manifest of older data are of runs that were killed: it is twice what the schedule looks back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """The versions and reports to remove and to keep."""

    removed: tuple[str, ...]
    """Versions, then folders of reports; oldest first."""
    kept: tuple[str, ...]


def plan_pruning(store: ObjectStore, *, keep: int, now: datetime) -> Pruning:
    """Return the versions of a store to remove, and the reports of runs that published nothing.

    Args:
        store: Of the models; a broken live pointer raises RunError.
        keep: Newest versions that stay, besides the live one and its parent; and as many reports.
        now: The time (UTC).
    """
    registry = Registry(store)
    complete = registry.versions()
    spared = {*complete[:keep], *_in_use(registry)}
    unfinished = [name for name in _named(store) - {*complete} if _until(name) < now - UNFINISHED]
    removed = sorted({*complete, *unfinished} - spared)
    reports = sorted({"/".join(key.split("/")[:2]) for key in store.list(f"{REJECTED}/")})[:-keep]
    return Pruning(removed=(*removed, *reports), kept=tuple(sorted({*complete} - {*removed})))


def prune(store: ObjectStore, *, keep: int, now: datetime) -> Pruning:
    """Remove old versions, each manifest first, so that none is ever live in part; return the removed ones."""
    done = plan_pruning(store, keep=keep, now=now)
    for version in done.removed:
        if version in _in_use(Registry(store)):
            continue  # made live by hand meanwhile
        store.delete(f"{version}/{MANIFEST}")
        for key in [*store.list(f"{version}/")]:
            store.delete(key)
        logger.info("model.pruned", version=version)
    return done


def _in_use(registry: Registry) -> Collection[str]:
    """Return the live version and its parent, which a rollback would need."""
    live = live_version(registry)
    if live is None:
        return ()
    try:
        parent = registry.manifest(live).parent
    except (ArtefactError, ObjectNotFoundError):
        parent = None
    return (live, parent) if parent else (live,)


def _named(store: ObjectStore) -> set[str]:
    return {name for name in (key.partition("/")[0] for key in store.list("")) if _NAME.fullmatch(name)}


def _until(name: str) -> datetime:
    return datetime.strptime(name.partition("-")[0] + "+0000", "%Y%m%dT%H%M%SZ%z")
