"""Turns the signals that end a program into events."""

import asyncio
import os
import signal
import threading
from typing import Final

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


def aio_termination() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets, in place of their default action."""
    event = asyncio.Event()
    for number in _ENDING:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def thread_termination() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets, in place of their default action; call from the main thread.

    A thread sets it: a handler runs within the main thread, which may hold the event's lock just then, and would wait
    for itself.
    """
    event = threading.Event()
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in _ENDING:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_set_when_told, args=(event, told), name="termination", daemon=True).start()
    return event


def _set_when_told(event: threading.Event, told: int) -> None:
    while not set(os.read(told, 1)) & set(_ENDING):
        pass
    event.set()
