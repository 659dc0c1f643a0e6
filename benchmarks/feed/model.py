"""Publishes a model of random numbers for benchmarks in which only its size matters."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from modelstore.artefact import Catalogue, Manifest, Model, RowLists, write
from modelstore.id_map import IdMap
from modelstore.registry import Registry
from servicekit.storage.object_store import FileStore

AT = datetime(2025, 9, 2, tzinfo=UTC)


def publish_random_model(store: Path, version: str, *, users: int, videos: int, dimensions: int, seed: int = 0) -> None:
    """Publish the model and make it live; ids are u0, u1, … and v0, v1, …."""
    rng = np.random.default_rng(seed)
    model = Model(
        manifest=Manifest(
            version=version,
            algorithm="lightfm-warp",
            trained_at=AT,
            data_until=AT,
            interaction_count=users * 20,
            user_count=users,
            video_count=videos,
            dimensions=dimensions,
            popularity_weight=0.3,
        ),
        users=IdMap.build(f"u{number}" for number in range(users)),
        videos=IdMap.build(f"v{number}" for number in range(videos)),
        user_factors=rng.standard_normal((users, dimensions), dtype=np.float32) / np.float32(dimensions),
        user_biases=np.zeros(users, np.float32),
        video_factors=rng.standard_normal((videos, dimensions), dtype=np.float32),
        video_biases=rng.standard_normal(videos, dtype=np.float32),
        popularity=rng.pareto(1.5, videos).astype(np.float32),
        seen=_sorted_lists(rng, users, 20, videos),
        catalogue=Catalogue(
            authors=IdMap.build(["a0"]),
            author_rows=np.zeros(videos, np.int32),
            tags=IdMap.build(f"t{number}" for number in range(10)),
            tag_rows=RowLists(np.arange(videos + 1, dtype=np.int64), rng.integers(0, 10, videos, dtype=np.int32)),
            durations_ms=np.full(videos, 20_000, np.int64),
            published_at_ms=np.full(videos, -1, np.int64),
        ),
    )
    registry = Registry(FileStore(store))
    folder = store.parent / "written" / version
    registry.publish(folder, write(model, folder))
    registry.activate(version, at=AT)


def _sorted_lists(rng: np.random.Generator, count: int, length: int, bound: int) -> RowLists:
    step = bound // length
    rows = np.arange(length) * step + rng.integers(0, step, (count, length))
    return RowLists(np.arange(count + 1, dtype=np.int64) * length, rows.astype(np.int32).ravel())
