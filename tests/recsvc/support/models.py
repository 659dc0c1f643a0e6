"""Small models to serve, and a store to publish them in."""

import mmap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import Catalogue, Manifest, Model, RowLists, write
from modelstore.id_map import IdMap
from modelstore.registry import Pointer, Registry
from servicekit.storage.object_store import FileStore

TRAINED_AT: Final = datetime(2025, 9, 2, 2, 30, tzinfo=UTC)
DATA_UNTIL: Final = datetime(2025, 9, 2, tzinfo=UTC)
MS: Final = 1_756_000_000_000


def csr(lists: "list[list[int]]") -> RowLists:
    """Return lists of rows in compressed form."""
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return RowLists(offsets, np.array([row for rows in lists for row in rows], dtype=np.int32))


def manifest_of(version: str, users: int, videos: int, dimensions: int, **changes: Any) -> Manifest:
    """Return a manifest of these counts."""
    return Manifest(
        version=version,
        algorithm="lightfm-warp",
        trained_at=TRAINED_AT,
        data_until=DATA_UNTIL,
        interaction_count=users * 3,
        user_count=users,
        video_count=videos,
        dimensions=dimensions,
        metrics={"lightfm.ndcg@20": 0.084, "popularity.ndcg@20": 0.05},
    ).model_copy(update={"popularity_weight": 0.5, **changes})


def random_catalogue(rng: np.random.Generator, videos: int) -> Catalogue:
    """Return a catalogue in which some authors, durations, dates and tags are unknown."""
    authors = IdMap.build(f"a{index}" for index in range(7))
    tags = IdMap.build(f"t{index}" for index in range(5))
    return Catalogue(
        authors=authors,
        author_rows=rng.integers(-1, len(authors), videos, dtype=np.int32),
        tags=tags,
        tag_rows=csr(
            [sorted(rng.choice(len(tags), rng.integers(0, 4), replace=False).tolist()) for _ in range(videos)]
        ),
        durations_ms=np.where(rng.random(videos) < 0.2, -1, rng.integers(0, 60_000, videos)),
        published_at_ms=np.where(rng.random(videos) < 0.2, -1, MS + rng.integers(0, 1000, videos)),
    )


def random_model(
    seed: int = 0,
    *,
    users: int = 12,
    videos: int = 60,
    dimensions: int = 4,
    version: str = "20250902-1",
    first: int = 0,
) -> Model:
    """Return a model of random numbers, rounded so that equal scores occur; video ids start at `v{first}`."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return (rng.integers(-2, 3, shape) / 2).astype(np.float32)

    return Model(
        manifest=manifest_of(version, users, videos, dimensions),
        users=IdMap.build(f"u{index}" for index in range(users)),
        videos=IdMap.build(f"v{index}" for index in range(first, first + videos)),
        user_factors=numbers(users, dimensions),
        user_biases=numbers(users),
        video_factors=numbers(videos, dimensions),
        video_biases=numbers(videos),
        popularity=np.abs(numbers(videos)),
        seen=csr([sorted(rng.choice(videos, videos // 6, replace=False).tolist()) for _ in range(users)]),
        catalogue=random_catalogue(rng, videos),
    )


def is_mapped(array: "NDArray[Any]") -> bool:
    """Return whether an array is a view of a file's mapping."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap) or (isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap))


def with_scores(scores: list[float]) -> Model:
    """Return a model in which every user, known or not, gives the videos v0, v1, … these scores, and saw none."""
    model = random_model(users=1, videos=len(scores), dimensions=1)
    zeros = np.zeros(len(scores), np.float32)
    return replace(
        model,
        manifest=model.manifest.model_copy(update={"popularity_weight": 0.0}),
        videos=IdMap.build(f"v{index:05}" for index in range(len(scores))),
        user_factors=np.zeros((1, 1), np.float32),
        user_biases=np.zeros(1, np.float32),
        video_biases=np.array(scores, np.float32),
        popularity=zeros,
        seen=csr([[]]),
    )


def publish(store: Path, model: Model, *, activate: bool = True, pin: bool = False) -> Pointer | None:
    """Publish a model in a file store, and make it live."""
    registry = Registry(FileStore(store))
    folder = store.parent / "written" / model.manifest.version
    registry.publish(folder, write(model, folder))
    return registry.activate(model.manifest.version, at=TRAINED_AT, pin=pin) if activate else None


def brute_force(model: Model, user_id: str) -> tuple[NDArray[np.float32], float]:
    """Return the ranking score of every video, one product after the other, and the user's bias apart."""
    manifest = model.manifest
    prior = np.float32(manifest.popularity_weight) * np.log(model.popularity + np.float32(manifest.popularity_floor))
    static: NDArray[np.float32] = model.video_biases + prior
    row = model.users.row(user_id)
    if row < 0:
        return static, 0.0
    products = [sum(map(float, factors * model.user_factors[row])) for factors in model.video_factors]
    scores: NDArray[np.float32] = np.array(products, np.float32) + static
    return scores, float(model.user_biases[row])
