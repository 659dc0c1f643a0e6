"""Defines the exit statuses of commands, besides 0 for success."""

from typing import Final

FAILED: Final = 1
"""It failed, and may succeed when tried again."""
BAD_INPUT: Final = 2
"""Settings or input are wrong."""
REJECTED: Final = 3
"""The gate ended the run; what was live stays live."""
BUSY: Final = 4
"""Another run is under way."""
SIGNALLED: Final = 128
"""A signal ended it: 128 plus the number of the signal, as shells have it."""
