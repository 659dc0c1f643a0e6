"""What users have seen, from a real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bridge.background.supervision import background
from bridge.domain.page import FallbackReason, Page, ServedBy, ServedPage
from bridge.feed.seen_loader import MAX_WAITING, SeenLoader
from bridge.feed.seen_videos import SeenVideos
from bridge.postgres.pool import Database, DatabaseUnavailableError
from tests.bridge.support.waiting import until


@pytest.fixture(scope="module")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
                " SELECT 'u1', 'v' || n, CASE n WHEN 3 THEN 'search' ELSE 'watch' END, now() + n * interval '1 second'"
                " FROM generate_series(1, 5) n"
            )
        yield database
    await database.close()


def _served(user_id: str, served_by: ServedBy = ServedBy.TRENDING) -> ServedPage:
    reason = FallbackReason.SHED if served_by is ServedBy.TRENDING else None
    page = Page(videos=[], more=False, algorithm="x", served_by=served_by, fallback_reason=reason)
    return ServedPage(
        user_id=user_id,
        feed_session_id="s",
        number=1,
        surface="",
        variant_id="",
        served_at=datetime.now(UTC),
        page=page,
    )


async def test_user_of_trending_is_loaded_once(database: Database) -> None:
    """In the order of what was done, and what this bridge has heard of since stays the latest."""
    seen = SeenVideos()
    seen.add("u1", ["new", "v1"])
    loader = SeenLoader(database, seen)
    loader.note(_served("u1"))
    loader.note(_served("unknown"))
    await loader.load()
    assert seen.of("u1") == ("v2", "v4", "v5", "new", "v1")
    assert seen.of("unknown") == ()
    loader.note(_served("u1"))
    loader.note(_served("unknown"))
    assert not loader._waiting


async def test_personal_and_anonymous_pages_load_nothing(database: Database) -> None:
    loader = SeenLoader(database, SeenVideos())
    loader.note(_served("u1", ServedBy.LIGHTFM))
    loader.note(_served(""))
    assert not loader._waiting


async def test_without_postgres_few_wait(database: Database) -> None:
    """Memory is bounded, and users are loaded when Postgres is back."""
    seen = SeenVideos()
    loader = SeenLoader(database, seen)
    for number in range(2 * MAX_WAITING):
        loader.note(_served(f"u{number + 1}"))
    assert len(loader._waiting) == MAX_WAITING
    database.ready.clear()
    with pytest.raises(DatabaseUnavailableError):
        await loader.load()
    database.ready.set()
    await loader.load()
    assert seen.loaded("u1")
