"""Files of videos in and out, as processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[3]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
VIDEOS: list[dict[str, Any]] = [
    {"videoId": "v1", "authorId": "a1", "tags": ["x"], "durationMs": 5, "uploadDate": "2025-08-30", "musicId": "m"},
    {
        "videoId": "v2",
        "language": "en",
        "expiresAt": "2030-01-01T00:00:00Z",
        "deniedCountries": ["DE"],
        "ageRating": 16,
        "attributes": {"licence": "cc", "weight": 0.5, "is_live": True, "moods": ["calm"]},
        "embedding": [0.5, 0.25],
    },
    {"videoId": "v3"},
]


@pytest.fixture
def run(postgres_url: str) -> Run:
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}

    def start(*arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "bridge", "catalogue", *map(str, arguments)],
            cwd=ROOT,
            env=environment | {"DATABASE_URL": postgres_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return start


def lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def counts(done: "subprocess.CompletedProcess[str]") -> list[int]:
    assert done.stderr == ""
    return [int(line.split()[-1]) for line in done.stdout.splitlines()[:5]]


def test_files_come_and_go_the_same(run: Run, tmp_path: Path, postgres_url: str) -> None:
    """Rows: read, created, updated, unchanged, refused."""
    file = lines(tmp_path / "in.jsonl", *VIDEOS)
    assert counts(run("import", file, "--dry-run")) == [3, 3, 0, 0, 0]
    assert counts(run("import", file)) == [3, 3, 0, 0, 0]
    assert counts(run("import", file)) == [3, 0, 0, 3, 0]
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO video_visibility (video_id, hidden) VALUES ('v3', true)"
            " ON CONFLICT (video_id) DO UPDATE SET hidden = true"
        )
    for suffix in ("parquet", "jsonl"):
        out = tmp_path / f"out.{suffix}"
        assert run("export", out).stdout == f"3 videos are in {out}\n"
        assert counts(run("import", out)) == [3, 0, 0, 3, 0]
    rows = pq.ParquetFile(tmp_path / "out.parquet").read().to_pylist()
    assert [(row["videoId"], row["hidden"]) for row in rows] == [("v1", False), ("v2", False), ("v3", True)]
    assert rows[0]["uploadDate"] == "2025-08-30T00:00:00Z"
    assert rows[1]["embedding"] == [0.5, 0.25]
    shorter = lines(tmp_path / "short.jsonl", {"videoId": "v1", "embedding": [1.0]})
    done = run("import", shorter)
    assert (done.returncode, counts(done)) == (1, [1, 0, 0, 0, 1])
    assert "has 1 numbers, those of all others have 2" in done.stdout
    done = run("import", shorter, "--new-embeddings")
    assert (done.returncode, done.stdout.splitlines()[0].split()) == (0, ["embeddings", "forgotten", "1"])


def test_odd_rows_are_named_and_the_others_stored(run: Run, tmp_path: Path) -> None:
    file = lines(
        tmp_path / "odd.jsonl",
        {"videoId": "o1"},
        "no JSON",
        {"videoId": 7},
        {"authorId": "a"},
        {"videoId": "o2", "durationMs": 1.5},
        {"videoId": "o3", "uploadDate": "yesterday"},
        {"videoId": "o4", "attributes": {"n": None}},
        {"videoId": "o5", "attributes": {"deep": {"a": 1}}},
        {"videoId": "o6", "embedding": ["x"]},
        {"videoId": "o7", "tags": "x"},
        {"videoId": "o8", "uploadDate": "2025-01-02", "expiresAt": "2025-01-01"},
        '{"videoId": "o9", "attributes": {"n": NaN}}',
        "x" * (1 << 21),
        {"videoId": "o1"},
        {"videoId": "last"},
    )
    done = run("import", file)
    assert (done.returncode, counts(done)) == (1, [15, 2, 0, 0, 13])
    named = done.stdout.splitlines()[5:]
    assert len(named) == 13
    assert any(line.startswith("  line 3: videoId: is no text") for line in named)
    assert any("'o8': 'o8'" not in line and "expires_at: must be after published_at" in line for line in named)


def test_what_is_no_file_of_videos_is_told_in_a_line(run: Run, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 and no more")
    nameless = tmp_path / "nameless.parquet"
    pq.write_table(pa.table({"id": ["v1"]}), nameless)
    for arguments, problem in (
        (("import", tmp_path / "none.jsonl"), "No such file"),
        (("import", tmp_path / "videos.csv"), "must end in .parquet or .jsonl"),
        (("import", damaged), "is damaged"),
        (("import", nameless), "column 'videoId' is missing"),
        (("export", tmp_path / "no" / "folder.jsonl"), "No such file"),
        (("export", tmp_path / "out.jsonl", "--dry-run"), "are options of import"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done
        assert done.stderr.startswith("error: ")
        assert problem in done.stderr
        assert len(done.stderr.splitlines()) == 1
