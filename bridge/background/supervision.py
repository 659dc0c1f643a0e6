"""Runs background work that never silently stops."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

RESTART_S: Final = 1.0
MAX_RESTART_S: Final = 30.0
"""The pause before work starts again doubles up to this, as a defect that stays would fill the log."""
WELL_S: Final = 60.0
"""Work that ran for so long before its defect starts again without any delay for earlier ones."""
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
    pause_s, told = RESTART_S, ""
    while True:
        began = time.monotonic()
        try:
            await work()
        except Exception as error:
            if time.monotonic() - began > WELL_S:
                pause_s, told = RESTART_S, ""
            if (defect := type(error).__name__) != told:
                logger.exception("background.defect", work=name)
            told = defect
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_RESTART_S)
