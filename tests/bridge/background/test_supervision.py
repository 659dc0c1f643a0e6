"""Work beside the calls: it starts again after a defect, and ends when it is told to."""

import asyncio

import pytest
import structlog

from bridge.background import supervision as background_module
from bridge.background.supervision import background


async def test_a_defect_is_told_and_the_work_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "RESTART_S", 0.01)
    went_on = asyncio.Event()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("no")
        went_on.set()
        await asyncio.Event().wait()

    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(20), background("work", work):
            await went_on.wait()
    assert [(log["event"], log["work"]) for log in logs] == [("background.defect", "work")]


@pytest.mark.parametrize("turns", range(5))
async def test_work_that_misses_its_cancellation_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.12 `wait_for` misses one that comes in some turns of the loop after what it waits for."""
    monkeypatch.setattr(background_module, "CANCEL_AGAIN_S", 0.01)
    came = asyncio.Event()

    async def work() -> None:
        await asyncio.wait_for(came.wait(), 60)
        await asyncio.Event().wait()

    async with asyncio.timeout(20):
        async with background("work", work):
            await asyncio.sleep(0.01)  # until it waits
            came.set()
            for _ in range(turns):
                await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "work"]


async def test_a_defect_that_stays_is_told_once_and_tried_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "RESTART_S", 0.001)
    monkeypatch.setattr(background_module, "MAX_RESTART_S", 0.004)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        raise ValueError if runs < 6 else KeyError

    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(20), background("work", work):
            while runs < 8:
                await sleep(0.001)
    assert pauses[:4] == [0.001, 0.002, 0.004, 0.004]
    assert [log["event"] for log in logs] == ["background.defect", "background.defect"]
