"""How often Postgres is looked for."""

import asyncio

from bridge.postgres.availability import MAX_PAUSE_S, PROBE_PAUSE_S, Availability
from tests.bridge.support.clock import FakeClock
from tests.bridge.support.waiting import until


class Present:
    """A database that answers."""

    async def answers(self) -> bool:
        return True


async def test_one_that_answers_without_working_is_looked_for_less_and_less() -> None:
    """As with a full disk: each time it is found it is lost at once, until it works for a while."""
    clock, pauses = FakeClock(), list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds
        await asyncio.sleep(0)

    availability = Availability(Present(), clock, sleep=sleep)
    watching = asyncio.create_task(availability.watch())
    for _ in range(7):
        availability.lost()
        await until(lambda: not availability.away)
    clock.now += 60
    availability.lost()
    await until(lambda: not availability.away)
    watching.cancel()
    assert pauses == [PROBE_PAUSE_S, 0.5, 1, 2, 4, MAX_PAUSE_S, MAX_PAUSE_S, PROBE_PAUSE_S]
