"""Calls during an outage."""

import time

from tests.bridge.support.events import record
from tests.bridge.support.ingestion import Ingestion
from videowindow.feed.v1 import interaction_pb2 as pb

ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE


async def timed(running: Ingestion, interaction: pb.Interaction, *, most_s: float) -> int:
    started = time.monotonic()
    status = (await record(running, interaction)).status
    assert time.monotonic() - started < most_s
    return status
