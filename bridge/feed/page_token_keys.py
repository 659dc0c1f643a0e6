"""Shares keys of page tokens between bridges through Postgres, rotates them, and keeps a copy on disk.

All bridges on one Postgres accept each other's tokens. A page never waits for a key: until Postgres has answered, a
bridge signs with what it found on disk, or with a key of its own that it accepts from then on.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

import structlog

from bridge.background.job import Job
from bridge.feed.page_token import MAX_KEYS, MIN_KEY_BYTES, PageTokens
from bridge.postgres.pool import Database
from servicekit.files.replacement import PRIVATE, write_whole
from servicekit.inputs.json_fields import JsonObject
from servicekit.telemetry.metrics import NO_METRICS, Metrics

LOCK: Final = 4_701_021
REFRESH_S: Final = 60.0
SETTLE_S: Final = 5 * REFRESH_S
"""Age from which on a key signs: by then all bridges accept it."""
RENEW_S: Final = 7 * 86_400.0
"""Age at which a key gets a successor."""
KEEP_S: Final = 4 * RENEW_S
"""Age up to which a key is accepted."""

_NEWEST: Final = "SELECT EXISTS (SELECT FROM page_token_keys WHERE created_at > now() - make_interval(secs => %s))"
_INSERT: Final = """
INSERT INTO page_token_keys (key) SELECT %s
WHERE NOT EXISTS (SELECT FROM page_token_keys WHERE created_at > now() - make_interval(secs => %s))
"""
_FORGET: Final = "DELETE FROM page_token_keys WHERE created_at < now() - make_interval(secs => %s)"
_KEYS: Final = """
SELECT key, created_at <= now() - make_interval(secs => %s) FROM page_token_keys
ORDER BY created_at DESC, key LIMIT %s
"""

logger = structlog.get_logger(__name__)


class SharedKeys:
    """Keeps the keys of page tokens equal to those that all bridges share.

    Args:
        tokens: Uses the keys.
        database: Where bridges share them.
        path: The file that keeps them for a start without Postgres.
        metrics: Counts failures.
        sleep: Waits between two looks.
    """

    def __init__(
        self,
        tokens: PageTokens,
        database: Database,
        path: Path,
        *,
        metrics: Metrics = NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tokens = tokens
        self._database = database
        self._path = path
        self._keys: Sequence[bytes] = []
        self._shared = asyncio.Event()
        self._kept = True
        self._job = Job("page-token-keys", self.refresh, interval_s=REFRESH_S, metrics=metrics, sleep=sleep)

    def restore(self) -> None:
        """Load the keys on disk, or make a new one if there are none."""
        try:
            self._keys = _read(self._path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            logger.warning("page_token_keys.not_read", path=str(self._path), error=str(error))
        if not self._keys:
            self._keys = [token_bytes(MIN_KEY_BYTES)]
        self._tokens.use(self._keys)

    async def keep_fresh(self) -> None:
        """Follow the shared keys; forever."""
        await self._job.run()

    async def warm_up(self, timeout_s: float) -> bool:
        """Wait for the shared keys until the time is over; return whether they are loaded."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._shared.wait()
        return self._shared.is_set()

    async def refresh(self) -> None:
        """Read the shared keys, and add one when the newest is old; DatabaseUnavailableError without Postgres."""
        async with self._database.connection() as connection:
            if await (await connection.execute(_NEWEST, [RENEW_S])).fetchone() != (True,):
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                await connection.execute(_INSERT, [token_bytes(MIN_KEY_BYTES), RENEW_S])
                await connection.execute(_FORGET, [KEEP_S])
            rows = await (await connection.execute(_KEYS, [SETTLE_S, MAX_KEYS - 1])).fetchall()
        keys = _in_order(rows)
        own = [key for key in self._keys if key not in keys]
        keys = [*keys, *own][:MAX_KEYS]  # tokens that were signed before this bridge knew the others' keys
        if keys != self._keys:
            self._tokens.use(keys)
            self._keys = keys
            await asyncio.to_thread(self._keep)
        self._shared.set()

    def _keep(self) -> None:
        try:
            _write(self._path, self._keys)
        except OSError as error:
            if self._kept:
                logger.warning("page_token_keys.not_kept", path=str(self._path), error=str(error))
            self._kept = False
        else:
            self._kept = True


def _in_order(rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Return the keys, the signing one first: the newest that all bridges know, or else the oldest."""
    keys = [bytes(key) for key, _ in rows]
    settled = [bytes(key) for key, is_settled in rows if is_settled]
    signing = settled[0] if settled else keys[-1]
    return [signing, *(key for key in keys if key != signing)]


def _read(path: Path) -> list[bytes]:
    keys = [bytes.fromhex(key) for key in JsonObject(path.read_bytes()).text("keys").split()]
    if any(len(key) < MIN_KEY_BYTES for key in keys):
        raise ValueError("it holds a short key")
    return keys[:MAX_KEYS]


def _write(path: Path, keys: Sequence[bytes]) -> None:
    """Replace the file as a whole, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"keys": " ".join(key.hex() for key in keys)}), mode=PRIVATE)
