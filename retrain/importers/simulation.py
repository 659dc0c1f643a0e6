"""Simulates a feed: generated users with tastes, in the layout of real exports, for trying things out.

Every video has a main tag and a popularity, every user likes a few tags. A feed shows popular videos and, now and
then, what suits the user's taste; what suits is watched longer and liked more often. So taste can be learnt from what
is watched, and popularity alone cannot know it. Days are made one at a time and written in blocks: memory does not grow
with their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrain.data.exports import MARKER, midnight

TAGS: Final = tuple(
    f"sim-{name}"
    for name in (
        "music",
        "cooking",
        "football",
        "travel",
        "comedy",
        "pets",
        "fashion",
        "gaming",
        "science",
        "dance",
        "cars",
        "art",
    )
)
TASTES: Final = 2
"""Tags that a user likes."""
BLOCK_USERS: Final = 50_000
"""Users whose day is held in memory at once."""
DAY_MS: Final = 86_400_000

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """Sizes and seed of a simulation."""

    users: int
    videos: int
    days: int
    views: int
    """Exposures of a user a day."""
    seed: int
    last: date


@dataclass(frozen=True, kw_only=True, slots=True)
class _World:
    """Videos and users with their properties."""

    tags: Integers
    """(V,) main tag of each video."""
    second_tags: Integers
    durations_ms: Integers
    shares: NDArray[np.float64]
    """(V,) popularity, summing up to 1."""
    tastes: Integers
    """(U, TASTES) tags that each user likes."""
    by_tag: tuple[Integers, ...]
    """The videos of each tag."""
    user_ids: Any
    """(U,) Arrow strings."""
    video_ids: Any
    """(V,) Arrow strings."""


def simulate(simulation: Simulation, folder: Path) -> int:
    """Write exports, catalogue and users into the folder and return the number of interactions.

    The same simulation writes the same rows every time.
    """
    random = np.random.default_rng(simulation.seed)
    world = _make_world(simulation, random)
    folder.mkdir(parents=True, exist_ok=True)
    _write_catalogue(simulation, world, random, folder)
    first = simulation.last - timedelta(days=simulation.days - 1)
    days = (first + timedelta(days=number) for number in range(simulation.days))
    return sum(_write_day(simulation, world, random, day, folder / "exports" / str(day)) for day in days)


def _make_world(simulation: Simulation, random: np.random.Generator) -> _World:
    count = simulation.videos
    tags = random.integers(0, len(TAGS), count)
    tags[: len(TAGS)] = np.arange(min(count, len(TAGS)))  # no tag without a video
    shares = random.permutation(1 / (np.arange(count) + 10.0))
    return _World(
        tags=tags,
        second_tags=random.integers(0, len(TAGS), count),
        durations_ms=random.integers(5_000, 90_000, count),
        shares=shares / shares.sum(),
        tastes=np.argsort(random.random((simulation.users, len(TAGS))), axis=1)[:, :TASTES],
        by_tag=tuple(np.flatnonzero(tags == tag) for tag in range(len(TAGS))),
        user_ids=pa.array([f"sim-u{number:07}" for number in range(simulation.users)]),
        video_ids=pa.array([f"sim-v{number:07}" for number in range(count)]),
    )


def _write_catalogue(simulation: Simulation, world: _World, random: np.random.Generator, folder: Path) -> None:
    authors = random.integers(0, max(1, simulation.videos // 10), simulation.videos)
    ages = random.integers(0, 60, simulation.videos)
    pairs = zip(world.tags.tolist(), world.second_tags.tolist(), strict=True)
    videos = {
        "videoId": world.video_ids,
        "authorId": pa.array([f"sim-a{author:05}" for author in authors]),
        "tags": pa.array([sorted({TAGS[main], TAGS[second]}) for main, second in pairs]),
        "durationMs": pa.array(world.durations_ms),
        "uploadDate": pa.array([str(simulation.last - timedelta(days=int(age))) for age in ages]),
    }
    pq.write_table(pa.table(videos), folder / "videos.parquet")
    pq.write_table(pa.table({"userId": world.user_ids}), folder / "users.parquet")


def _write_day(simulation: Simulation, world: _World, random: np.random.Generator, day: date, folder: Path) -> int:
    """Write one day and its completion marker, and return its number of interactions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    count = 0
    with pq.ParquetWriter(folder / "interactions-0000.parquet", _SCHEMA) as writer:
        for table in _blocks(simulation, world, random, midnight(day)):
            writer.write_table(table)
            count += table.num_rows
    (folder / MARKER).touch()
    return count


def _blocks(simulation: Simulation, world: _World, random: np.random.Generator, begin: datetime) -> Iterator[pa.Table]:
    for first in range(0, simulation.users, BLOCK_USERS):
        block = np.arange(first, min(first + BLOCK_USERS, simulation.users))
        users = np.repeat(block, random.poisson(simulation.views, len(block)))
        videos = _choose_videos(world, users, random)
        yield _interactions(world, users, videos, begin, random)


def _choose_videos(world: _World, users: Integers, random: np.random.Generator) -> Integers:
    """Return the video of each exposure: three in ten follow the user's taste, the others popularity."""
    videos = np.searchsorted(np.cumsum(world.shares), random.random(len(users)) * (1 - 1e-9))
    wanted = world.tastes[users, random.integers(0, TASTES, len(users))]
    by_taste = random.random(len(users)) < 0.3
    for tag, candidates in enumerate(world.by_tag):
        places = np.flatnonzero(by_taste & (wanted == tag))
        if len(candidates):
            videos[places] = random.choice(candidates, len(places))
    return videos


def _interactions(
    world: _World, users: Integers, videos: Integers, begin: datetime, random: np.random.Generator
) -> pa.Table:
    """Return the interactions of exposures: a watch or a bare impression each, and likes."""
    suits = (world.tastes[users] == world.tags[videos, None]).any(axis=1)
    draw = random.random((3, len(users)))
    watched = draw[0] < np.where(suits, 0.8, 0.25)
    completion = np.where(suits, 0.3 + 0.8 * draw[1], 0.5 * draw[1]) * watched
    watch_ms = (np.minimum(completion, 1.0) * world.durations_ms[videos]).astype(np.int64)
    liked = np.flatnonzero(watched & (draw[2] < np.where(suits, 0.15, 0.01)))
    at_ms = random.integers(0, DAY_MS - 120_000, len(users))
    kinds = np.where(watched, "watch", "impression")
    order = np.argsort(np.concatenate((at_ms, at_ms[liked] + watch_ms[liked])), kind="stable")
    every = np.concatenate((np.arange(len(users)), liked))
    return pa.table(
        {
            "userId": world.user_ids.take(pa.array(users[every][order])),
            "videoId": world.video_ids.take(pa.array(videos[every][order])),
            "interactionType": pa.array(np.concatenate((kinds, np.full(len(liked), "like")))[order], pa.string()),
            "watchTime": pa.array(np.concatenate((watch_ms, np.zeros(len(liked), np.int64)))[order]),
            "timestamp": _iso(begin, np.concatenate((at_ms, at_ms[liked] + watch_ms[liked]))[order]),
        },
        schema=_SCHEMA,
    )


def _iso(begin: datetime, offsets_ms: Integers) -> Any:
    instants = np.datetime64(begin.replace(tzinfo=None), "ms") + offsets_ms
    return pa.array(np.char.add(np.datetime_as_string(instants, unit="ms"), "Z"), pa.string())


_SCHEMA: Final = pa.schema(
    {
        "userId": pa.string(),
        "videoId": pa.string(),
        "interactionType": pa.string(),
        "watchTime": pa.int64(),
        "timestamp": pa.string(),
    }
)
