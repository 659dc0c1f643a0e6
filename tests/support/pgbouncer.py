"""PgBouncer, a pooler that stands between the programs and Postgres: the real one, where it is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deploy.local.child_process import Child
from servicekit.process.ports import free_port

FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")
"""Where packages put it besides what the path of ordinary users names."""
POOL_SIZE: Final = 5
"""Fewer sessions than a bridge has connections, so that they are shared."""
START_S: Final = 60.0


@contextmanager
def pgbouncer(folder: Path, url: str, *, mode: str, pool_size: int = POOL_SIZE) -> Iterator[str]:
    """Run a pooler before a database until the block ends, with its defaults; return the URL to use instead.

    Args:
        folder: For its files.
        url: Of the database.
        mode: When a server's session is given to another client: `session`, `transaction`.
        pool_size: Sessions that it opens at most.
    """
    program = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS]))
    if program is None:
        pytest.skip("pgbouncer is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    port, parts = free_port(), conninfo_to_dict(url)
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{parts["user"]}" "{parts["password"]}"\n', encoding="utf-8")
    settings.write_text(
        "[databases]\n"
        f"* = host={parts['host']} port={parts['port']}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = {mode}\n"
        f"default_pool_size = {pool_size}\nmax_client_conn = 200\n",
        encoding="utf-8",
    )
    child = Child.start("PgBouncer", [program, str(settings)], log=folder / "log", prefix=_as_unprivileged())
    through = make_conninfo(url, host="127.0.0.1", port=port)
    try:
        child.wait_until(lambda: _answers(through), timeout_s=START_S)
        yield f"postgresql://{parts['user']}:{parts['password']}@127.0.0.1:{port}/{parts['dbname']}"
    finally:
        child.kill()


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _as_unprivileged() -> list[str]:
    """Return the command that runs it as somebody else than root, whom it refuses, and yet lets it read its files."""
    if os.geteuid() != 0:
        return []
    capability = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    return ["setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups", *capability]
