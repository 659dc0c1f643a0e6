"""Calls run in threads, and gRPC is told when they end."""

import threading
from collections import Counter
from functools import partial

from servicekit.call_pool import CallPool
from tests.support.polling import wait_for


def test_each_call_runs_once_and_its_end_is_told_once() -> None:
    """Also where the call ends before or while somebody asks to be told."""
    pool, ran, told = CallPool(4), Counter[int](), Counter[int]()
    lock = threading.Lock()

    def note(counter: Counter[int], number: int) -> None:
        with lock:
            counter[number] += 1

    def told_of(number: int, _: object) -> None:
        note(told, number)

    for number in range(2_000):
        handling = pool.submit(note, ran, number)
        for _ in range(2):
            handling.add_done_callback(partial(told_of, number))
    wait_for(lambda: told.total() == 4_000, what="all ends told")
    pool.shutdown()

    assert ran == Counter(range(2_000))
    assert set(told.values()) == {2}


def test_a_call_that_raises_takes_no_thread_with_it() -> None:
    pool, ended = CallPool(1), threading.Event()

    def fail() -> None:
        raise ValueError

    for _ in range(3):
        pool.submit(fail)
    pool.submit(ended.set)

    assert ended.wait(10)
    pool.shutdown()


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    pool, together = CallPool(3), threading.Barrier(3)
    ended = [threading.Event() for _ in range(3)]

    def meet(one: threading.Event) -> None:
        together.wait(10)
        one.set()

    for one in ended:
        pool.submit(meet, one)

    assert all(one.wait(10) for one in ended)
    pool.shutdown()
