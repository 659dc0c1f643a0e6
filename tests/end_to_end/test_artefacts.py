"""A model that is damaged never serves."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from modelstore.registry import Registry
from servicekit.process.ports import free_port
from servicekit.storage.object_store import FileStore, open_store
from tests.support.polling import wait_for
from tests.support.system import System

ROOT: Final = Path(__file__).parents[2]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


DAMAGES: Final = [flip_a_bit, cut_short, Path.unlink]


def damaged_copy(system: System, target: Path, version: str, damage: object) -> None:
    """Put the live version under another name into a store, with one array damaged, and make it live."""
    live = open_store(system.env["MODEL_STORE_URL"])
    assert isinstance(live, FileStore)
    current = Registry(live).current()
    assert current
    copy = target / version
    shutil.copytree(live.root / current[0].version, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": version}), encoding="utf-8")
    damage(copy / "video_factors.npy")  # type: ignore[operator]  # one of DAMAGES
    Registry(FileStore(target)).activate(version, at=datetime.now(UTC))


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_old_model_keeps_serving_when_the_new_one_is_damaged(system: System, damage: object) -> None:
    store = open_store(system.env["MODEL_STORE_URL"])
    assert isinstance(store, FileStore)
    registry = Registry(store)
    current = registry.current()
    assert current
    good = current[0].version
    refused = len(system.dogstatsd.packets("feed.lightfm.model_refused"))
    damaged_copy(system, store.root, f"{good}-{damage.__name__}", damage)  # type: ignore[attr-defined]  # functions
    try:
        wait_for(lambda: len(system.dogstatsd.packets("feed.lightfm.model_refused")) > refused, what="the alarm")
        page = system.recommend(user_id=system.users(1)[0]).message
        assert (page["model_version"], len(page["videos"])) == (good, 20)
    finally:
        registry.activate(good, at=datetime.now(UTC))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_server_without_another_model_does_not_start(system: System, tmp_path: Path, damage: object) -> None:
    """It ends with one clear line and no stack trace."""
    store = tmp_path / "models"
    store.mkdir()
    damaged_copy(system, store, "20250901-1", damage)
    environment = system.env | {
        "MODEL_STORE_URL": store.as_uri(),
        "MODEL_CACHE_DIR": str(tmp_path / "cache"),
        "RECSVC_LISTEN": f"127.0.0.1:{free_port()}",
    }
    done = run("recsvc", environment)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("{"))
    assert line.startswith("error: no model can be served: ")
    assert "video_factors.npy" in line


def test_a_missing_database_url_is_named() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    done = run("bridge", environment)
    assert (done.returncode, done.stderr) == (2, "error: DATABASE_URL: Field required\n")


def test_a_missing_model_store_is_named() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MODEL_STORE_URL"}
    done = run("recsvc", environment)
    assert (done.returncode, done.stderr) == (2, "error: MODEL_STORE_URL: Field required\n")


def run(program: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
