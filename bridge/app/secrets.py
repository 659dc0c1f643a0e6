"""Keeps the bridge's certificates, passwords and keys as current as their files."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from bridge.settings import BridgeSettings, connection_string
from servicekit.configuration.settings import secret_file
from servicekit.credentials.client_identity import TlsIdentity, renewed_identity
from servicekit.credentials.renewal import Contents, Renewals, Renewed, text_of

T = TypeVar("T")

DATABASE_URL = "DATABASE_URL"
SEGMENT_KEY = "SEGMENT_WRITE_KEY"


class Secrets:
    """Secrets that follow their files; those from the environment never change.

    Args:
        settings: Name the files.
        renewals: Looks at them.
    """

    def __init__(self, settings: BridgeSettings, renewals: Renewals) -> None:
        self._settings = settings
        files = settings.tls()
        self.tls: Renewed[TlsIdentity] | None = renewals.add(renewed_identity(files)) if files else None
        self.kafka: Renewed[dict[str, Any]] | None = (
            renewals.add(settings.renewed_kafka_client()) if settings.kafka_bootstrap_servers else None
        )
        self.database: Renewed[str] | None = None
        if path := secret_file(DATABASE_URL):
            self.database = renewals.add(Renewed({DATABASE_URL: path}, _database_url))
        self.segment: Renewed[str] | None = None
        if path := secret_file(SEGMENT_KEY):
            self.segment = renewals.add(Renewed({SEGMENT_KEY: path}, text_of(SEGMENT_KEY)))

    def database_url(self) -> str:
        """Return the URL of Postgres with the current password."""
        return self.database.current if self.database else self._settings.database_url


def on_loop(told: Callable[[T], object]) -> Callable[[T], None]:
    """Return a function that passes a value to the running event loop, from any thread."""
    loop = asyncio.get_running_loop()

    def tell(value: T) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(told, value)

    return tell


def _database_url(contents: Contents) -> str:
    try:
        return connection_string(text_of(DATABASE_URL)(contents))
    except ValueError as error:
        raise ValueError(f"{DATABASE_URL} {error}") from None
