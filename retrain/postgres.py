"""Connects to Postgres with a bound on each answer: a stopped server would never answer."""

from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

CONNECT_S: Final = 10
ANSWER_S: Final = 20.0

T = TypeVar("T")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed when an answer takes longer than `ANSWER_S`."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer; OperationalError when none comes in time."""
        limit = ANSWER_S if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001  # it has no public name
            self.close()
            raise psycopg.OperationalError(f"no answer within {limit:g} s") from None


def connect(conninfo: str, *, autocommit: bool = False) -> Connection:
    """Return a connection to the writable server; psycopg.Error without one."""
    return Connection.connect(
        conninfo,
        autocommit=autocommit,
        prepare_threshold=None,  # a pooler gives later statements to sessions that do not know what was prepared
        connect_timeout=CONNECT_S,
        keepalives_idle=10,
        keepalives_interval=5,
        # A lock that a standby gave would keep nobody out.
        target_session_attrs="read-write",
        application_name="retrain",
    )
