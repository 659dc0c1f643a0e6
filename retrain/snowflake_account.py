"""Connects to Snowflake."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

LOGIN_S: Final = 20
NETWORK_S: Final = 30
SCHEMA: Final = "feed"


class SnowflakeError(Exception):
    """Snowflake did not take the rows; the message is one line for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SnowflakeAccount:
    """The place of the table in Snowflake, and the credentials of the writer."""

    account: str
    user: str
    password: SecretStr
    database: str
    warehouse: str | None = None
    role: str | None = None
    url: str | None = None
    """Where it is, if that does not follow from the account."""

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Yield a cursor; SnowflakeError for any failure in the block."""
        # Slow to import, and needed only where Snowflake is.
        import snowflake.connector as snowflake  # noqa: PLC0415
        from snowflake.connector.errors import Error  # noqa: PLC0415

        parts = urlsplit(self.url or "")
        where = {"protocol": parts.scheme, "host": parts.hostname, "port": parts.port} if self.url else {}
        try:
            connection = snowflake.connect(
                account=self.account,
                user=self.user,
                password=self.password.get_secret_value(),
                database=self.database,
                schema=SCHEMA,
                warehouse=self.warehouse,
                role=self.role,
                **{name: value for name, value in where.items() if value},
                login_timeout=LOGIN_S,
                network_timeout=NETWORK_S,
                client_session_keep_alive=False,
                session_parameters={"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False, "TIMEZONE": "UTC"},
            )
            with closing(connection), closing(connection.cursor()) as cursor:
                yield cursor
        except Error as error:
            raise SnowflakeError(" ".join(str(error).split())) from None
