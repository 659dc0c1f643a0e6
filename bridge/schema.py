"""Brings the database schema up to date."""

import logging
import threading
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

MIGRATIONS: Final = Path(__file__).parent / "migrations"
FEED_CACHE_DAYS: Final = 7
"""Days that served pages are kept."""

_alembic = threading.Lock()  # it keeps the current context in module globals


def migrate(conninfo: str) -> None:
    """Apply the revisions that are missing, in one transaction; psycopg.OperationalError when out of reach.

    Safe to run by several instances at once.
    """
    # Half a second to import, and not needed after the start.
    import sqlalchemy as sa  # noqa: PLC0415
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    psycopg.connect(conninfo).close()  # an unreachable server is reported by psycopg, not wrapped by SQLAlchemy
    connect = partial(psycopg.connect, conninfo)
    engine = sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _alembic, engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with psycopg.connect(conninfo) as partitions:
        partitions.execute("SELECT feed_cache_maintain(%s)", [FEED_CACHE_DAYS])
        partitions.execute("SELECT user_interactions_ensure_months((now() - interval '1 month')::date, 14)")
