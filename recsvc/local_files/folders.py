"""Folders of this machine, below that of local copies of models."""

from typing import Final

LIVE_STATE: Final = "live-state"
"""What happened since training; a process of its own follows Kafka there."""
