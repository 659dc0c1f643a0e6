"""Tells others of interactions once they are acknowledged."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from bridge.interaction import Interaction
from bridge.recorder import Acknowledgement

InteractionListener: TypeAlias = Callable[[Interaction], None]
"""Must return at once and never raise."""


def tell_when_new(
    done: "asyncio.Future[Acknowledgement]", interaction: Interaction, listeners: Sequence[InteractionListener]
) -> None:
    """Tell the listeners of an interaction when it turns out to be durable and new."""
    done.add_done_callback(partial(_tell, interaction=interaction, listeners=listeners))


def _tell(
    done: "asyncio.Future[Acknowledgement]", *, interaction: Interaction, listeners: Sequence[InteractionListener]
) -> None:
    if done.cancelled() or done.exception() is not None or done.result().duplicate:
        return
    for listener in listeners:
        listener(interaction)
