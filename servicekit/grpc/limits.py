"""Limits how much of a server one caller can hold."""

from typing import Final

import grpc

from servicekit.grpc.errors import ServiceError, unavailable

FIRST_MESSAGE_S: Final = 60.0
"""Seconds in which a caller must send the message that its call waits for."""
LOOKS: Final = 4
"""Looks at a call of an asyncio server within that time."""
STRAGGLERS_S: Final = 1.0
"""Seconds in which calls that have come without their message must send it at a drain."""
IDLE_S: Final = 900.0
"""Seconds after which a stream of interactions without any is ended; its client opens another one."""
RETRY_AFTER_S: Final = 1.0

SILENT: Final = ServiceError(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "MESSAGE_OVERDUE",
    "the call's message did not come in time",
    retry_after_s=RETRY_AFTER_S,
)
STOPPING: Final = unavailable("SHUTTING_DOWN", "the server is about to end", retry_after_s=RETRY_AFTER_S)


def crowded(what: str) -> ServiceError:
    """Return the error for a call beyond the server's limit for its kind."""
    return ServiceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_CALLS",
        f"the server has as many calls of this kind as it takes ({what})",
        retry_after_s=RETRY_AFTER_S,
    )
