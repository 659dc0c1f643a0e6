"""The command that counts trending anew, as a process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import psycopg
import pytest

from bridge.postgres.migrate import migrate

ROOT: Final = Path(__file__).parents[3]
COUNTS: Final = "SELECT video_id, deeds, amount FROM trending_hours ORDER BY video_id"


def run(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "-m", "bridge", "trending", *arguments],
        cwd=ROOT,
        env=environment | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with interactions that nobody has counted, and counts of none."""
    migrate(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("TRUNCATE user_interactions, trending_hours")
        connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u' || n, 'v' || n % 3, 'like', now() FROM generate_series(1, 30) AS n"
        )
        connection.execute(
            "INSERT INTO trending_hours (hour, video_id, interaction_type, surface, country, language, deeds, amount)"
            " VALUES (0, 'wrong', 'like', '', '', '', 1, 1)"
        )
    return postgres_url


def _counts(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(COUNTS).fetchall()


def test_recompute_counts_anew(url: str) -> None:
    done = run(url, "recompute")
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 interactions were read here" in done.stdout
    assert _counts(url) == [(f"v{number}", 10, 10_000_000) for number in range(3)]
    again = run(url, "recompute")
    assert "3 of the first 3 videos were among the first 3 before" in again.stdout


def test_a_dry_run_changes_nothing(url: str) -> None:
    before = _counts(url)
    done = run(url, "recompute", "--dry-run")
    assert done.returncode == 0
    assert "interactions to read         30\n" in done.stdout
    assert "nothing was changed\n" in done.stdout
    assert _counts(url) == before


def test_only_the_owner_can_begin(url: str) -> None:
    """Others are told so in a line."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS trending_app")
        connection.execute("CREATE ROLE trending_app LOGIN PASSWORD 'app'")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO trending_app")
    done = run(f"postgresql://trending_app:app@{url.split('@')[1]}", "recompute")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: permission denied for table trending_hours: run this command as the owner of the tables"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY trending_app")
        connection.execute("DROP ROLE trending_app")
