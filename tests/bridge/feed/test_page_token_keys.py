"""Keys of page tokens that bridges share through a real Postgres."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from bridge.background.supervision import background
from bridge.feed.page_token import InvalidPageTokenError, PageToken, PageTokens
from bridge.feed.page_token_keys import KEEP_S, RENEW_S, SETTLE_S, SharedKeys
from bridge.postgres.pool import Database, DatabaseUnavailableError
from tests.bridge.support.waiting import until

TOKEN = PageToken(feed_session_id="s", request=b"12345678", page=2, served=("v",))
AWAY = "postgresql://127.0.0.1:1/none"


@pytest.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        yield database
    await database.close()


@pytest.fixture
async def database(pool: Database) -> Database:
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE page_token_keys")
    return pool


def _bridge(database: Database, path: Path) -> tuple[SharedKeys, PageTokens]:
    tokens = PageTokens([b"x" * 32])
    keys = SharedKeys(tokens, database, path)
    keys.restore()
    return keys, tokens


async def _age(database: Database, seconds: float) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE page_token_keys SET created_at = created_at - make_interval(secs => %s)", [seconds]
        )


async def test_bridges_accept_each_others_tokens(database: Database, tmp_path: Path) -> None:
    """Also those that a bridge made before it knew of the others, once it does."""
    (keys, tokens), (other_keys, other) = _bridge(database, tmp_path / "a"), _bridge(database, tmp_path / "b")
    early = tokens.encode(TOKEN)
    await keys.refresh()
    await other_keys.refresh()
    assert tokens.decode(other.encode(TOKEN)) == other.decode(tokens.encode(TOKEN)) == TOKEN
    assert tokens.decode(early) == TOKEN
    assert await keys.warm_up(0)
    with pytest.raises(InvalidPageTokenError):
        other.decode(early)


async def test_keys_outlive_the_program_without_postgres(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    keys, tokens = _bridge(database, path)
    await keys.refresh()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    later, tokens_later = _bridge(Database(AWAY), path)
    assert tokens_later.decode(tokens.encode(TOKEN)) == TOKEN
    with pytest.raises(DatabaseUnavailableError):
        await later.refresh()
    assert not await later.warm_up(0)


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"keys": ""}', '{"keys": "ab"}', '{"keys": "xyz"}'])
async def test_a_bad_file_is_replaced(database: Database, tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    keys, tokens = _bridge(database, path)
    assert tokens.decode(tokens.encode(TOKEN)) == TOKEN
    await keys.refresh()
    assert _bridge(Database(AWAY), path)[1].decode(tokens.encode(TOKEN)) == TOKEN


async def test_an_unwritable_folder_is_told_of_once(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with structlog.testing.capture_logs() as logs:
        keys, tokens = _bridge(database, tmp_path / "file" / "keys.json")
        await keys.refresh()
        await keys.refresh()
    assert tokens.decode(tokens.encode(TOKEN)) == TOKEN
    assert [log["event"] for log in logs if log["event"] == "page_token_keys.not_kept"] == ["page_token_keys.not_kept"]


async def test_a_key_is_renewed_without_a_refused_token(database: Database, tmp_path: Path) -> None:
    """The successor signs only when all bridges have had the time to know it; the old one goes at last."""
    (keys, tokens), (other_keys, other) = _bridge(database, tmp_path / "a"), _bridge(database, tmp_path / "b")
    await keys.refresh()
    await other_keys.refresh()
    first = tokens.encode(TOKEN)
    await _age(database, RENEW_S + 1)
    await keys.refresh()  # makes a successor, which the other bridge does not know yet
    assert other.decode(tokens.encode(TOKEN)) == TOKEN
    await other_keys.refresh()
    await _age(database, SETTLE_S + 1)
    await keys.refresh()
    second = tokens.encode(TOKEN)
    assert second != first
    assert other.decode(second) == tokens.decode(first) == TOKEN
    await _age(database, KEEP_S)
    await keys.refresh()
    async with database.connection() as connection:
        rows = await (await connection.execute("SELECT count(*) FROM page_token_keys")).fetchall()
    assert rows == [(1,)]
