import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsvc.live_state.turns import StoreError, Turns

PATIENCE_S = 60.0


def test_one_at_a_time_holds_the_turn(tmp_path: Path) -> None:
    """Threads of one process, and those who share nothing with them but the folder."""
    turns = [Turns(tmp_path)] * 3 + [Turns(tmp_path) for _ in range(3)]
    holders = most = 0

    def work(one: Turns) -> int:
        nonlocal holders, most
        for _ in range(20):
            with one.take(patience_s=PATIENCE_S):
                holders += 1
                most = max(most, holders)
                holders -= 1
        return 20

    with ThreadPoolExecutor(len(turns)) as pool:
        assert sum(pool.map(work, turns)) == 20 * len(turns)
    assert most == 1


@pytest.mark.parametrize("is_of_the_same_process", [True, False])
def test_who_waits_for_too_long_is_told_so(tmp_path: Path, *, is_of_the_same_process: bool) -> None:
    one = Turns(tmp_path)
    other = one if is_of_the_same_process else Turns(tmp_path)

    with one.take(patience_s=0), pytest.raises(StoreError, match="too long"), other.take(patience_s=0.01):
        pass
    with other.take(patience_s=0):
        pass


def test_nobody_who_has_just_written_overtakes_one_who_waits(tmp_path: Path) -> None:
    busy, waiting = Turns(tmp_path), Turns(tmp_path)
    had_turn = threading.Event()

    def wait() -> None:
        with waiting.take(patience_s=PATIENCE_S):
            had_turn.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(wait)
        while not had_turn.is_set():  # ends when the other one had its turn
            with busy.take(patience_s=PATIENCE_S):
                pass
