"""Work that goes on beside the calls, and never silently stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

RESTART_S: Final = 1.0
CANCEL_AGAIN_S: Final = 1.0
"""Seconds until work that has not ended is cancelled once more, and with it any clean-up that takes so long. Before
Python 3.12 `asyncio.wait_for`, on which psycopg's pool waits, misses one that comes together with what it waits for."""

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def background(name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run never-ending work until the block ends; a defect in it is logged, and it starts again."""
    task = asyncio.create_task(_keep_running(name, work), name=name)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


async def _keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background.defect", work=name)
        await asyncio.sleep(RESTART_S)
