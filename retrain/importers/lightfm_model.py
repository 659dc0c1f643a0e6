"""Converts a pickled LightFM model to the format that servers load, and publishes it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from modelstore.artefact import Catalogue, Manifest, Model, RowLists, digest
from modelstore.id_map import IdMap
from modelstore.registry import Registry
from modelstore.signature import SigningKey
from retrain.embeddings import Embeddings
from retrain.errors import Reason, RunError
from retrain.importers.lightfm_pickle import Bundle, Ids, in_order, read_ids, read_matrix, representations, unpickle
from retrain.publishing.publish import Publication, live_version, name_prefix, publish, write_verified
from retrain.recipe import DIGITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The files of an import; None for a missing one."""

    pickle: Path
    """Whose maker is trusted: reading it runs its code."""
    users: Path | None = None
    items: Path | None = None
    user_features: Path | None = None
    item_features: Path | None = None
    interactions: Path | None = None
    """Matrix of users x videos, not zero where a user has seen a video."""


def import_lightfm(
    source: Source, registry: Registry, *, trained_at: datetime, now: datetime, key: SigningKey | None
) -> Publication:
    """Publish the model, and make it live unless another one is pinned or has newer data.

    Args:
        source: The files.
        registry: Where to.
        trained_at: When the model was trained, and up to when its data go.
        now: The time (UTC).
        key: Signs it, unless None.

    Raises:
        RunError: The files hold no model, or do not fit each other.
    """
    model = read(source, trained_at=trained_at, parent=live_version(registry))
    prefix = name_prefix(trained_at, digest(source.pickle)[:DIGITS])
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        manifest = write_verified(model, prefix, Path(folder))
        return publish(registry, Path(folder), manifest, now=now, key=key)


def read(source: Source, *, trained_at: datetime, parent: str | None = None) -> Model:
    """Return the model, whose scores are those of `LightFM.predict`: it has no popularity prior."""
    bundle = unpickle(source.pickle)
    users = in_order(_ids(source.users, bundle.users, "--users"), "users")
    videos = in_order(_ids(source.items, bundle.videos, "--items"), "items")
    known = representations(
        bundle.model,
        len(users),
        len(videos),
        user_features=read_matrix(source.user_features) if source.user_features else None,
        item_features=read_matrix(source.item_features) if source.item_features else None,
    )
    problem = known.problem()
    if problem:
        raise RunError(Reason.TRAINING, problem)
    seen = read_matrix(source.interactions) if source.interactions else None
    if seen is not None and seen.shape != (len(users), len(videos)):
        wanted = f"{len(users)} x {len(videos)}"
        raise RunError(Reason.DATA, f"--interactions is of {seen.shape[0]} x {seen.shape[1]} instead of {wanted}")
    return _model(bundle, users, videos, known, seen=seen, trained_at=trained_at, parent=parent)


def _ids(path: Path | None, pickled: Ids | None, option: str) -> Ids:
    if path:
        return read_ids(path)
    if pickled is None:
        raise RunError(Reason.DATA, f"no identifiers were pickled with the model: {option} names a file of them")
    return pickled


def _model(
    bundle: Bundle,
    users: Sequence[str],
    videos: Sequence[str],
    known: Embeddings,
    *,
    seen: Any,
    trained_at: datetime,
    parent: str | None,
) -> Model:
    user_map, video_map = IdMap.build(users), IdMap.build(videos)
    # Where each row of the artefact stands in the model.
    user_order, video_order = np.argsort(user_map.rows(users)), np.argsort(video_map.rows(videos))
    count = len(videos)
    return Model(
        manifest=Manifest(
            version="unnamed",
            algorithm=f"lightfm-{bundle.model.loss}",
            trained_at=trained_at,
            data_until=trained_at,
            interaction_count=0 if seen is None else seen.nnz,
            user_count=len(users),
            video_count=count,
            dimensions=known.video_factors.shape[1],
            parent=parent,
        ),
        users=user_map,
        videos=video_map,
        user_factors=known.user_factors[user_order],
        user_biases=known.user_biases[user_order],
        video_factors=known.video_factors[video_order],
        video_biases=known.video_biases[video_order],
        popularity=np.zeros(count, np.float32),
        seen=_lists(seen, user_order, video_order),
        catalogue=Catalogue(
            authors=IdMap.build([]),
            author_rows=np.full(count, -1, np.int32),
            tags=IdMap.build([]),
            tag_rows=RowLists(np.zeros(count + 1, np.int64), np.empty(0, np.int32)),
            durations_ms=np.full(count, -1, np.int64),
            published_at_ms=np.full(count, -1, np.int64),
        ),
    )


def _lists(seen: Any, user_order: Any, video_order: Any) -> RowLists:
    if seen is None:
        return RowLists(np.zeros(len(user_order) + 1, np.int64), np.empty(0, np.int32))
    ordered = seen[user_order][:, video_order].tocsr()
    ordered.eliminate_zeros()
    ordered.sort_indices()
    return RowLists(ordered.indptr.astype(np.int64), ordered.indices.astype(np.int32))
