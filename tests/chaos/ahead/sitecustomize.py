"""Puts the date of a Python process ahead by CHAOS_AHEAD_S seconds: on the path, Python imports this before all else.

Seconds since 1970 are left alone, as gRPC compares them with deadlines that its part in C takes from the true clock.
"""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import psycopg  # noqa: F401  # its part in C has to see the true types
from cryptography.x509 import load_pem_x509_certificate

if certificate := os.environ.get("TLS_CERT_FILE"):
    # The part of it that is written in Rust takes the true type when it first tells a time.
    _ = load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc

AHEAD_S = float(os.environ.get("CHAOS_AHEAD_S", "0"))
_datetime = dt.datetime


class _Stand(type):
    """Stands for the type of times in all respects: libraries in C know only the true one."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return _datetime(*arguments, **named)

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _datetime)


class _Ahead(_datetime, metaclass=_Stand):
    """Tells another time of day."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        """Return the time of day."""
        return _datetime.now(tz) + dt.timedelta(seconds=AHEAD_S)


dt.datetime = _Ahead  # type: ignore[misc]  # that is the point
