"""Prepares an empty system for its services, and skips steps that are done already.

`python -m deploy.local.prepare <folder>` does it for a data set, with Postgres and the model store that the
environment names. A folder without exports gets simulated ones.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.local.child_process import Child, ChildError
from deploy.local.data_folder import DataSet
from deploy.local.output import say, step
from deploy.local.seed_history import seed
from retrain.exit_status import REJECTED
from servicekit.storage.object_store import ObjectNotFoundError, open_store

ROOT: Final = Path(__file__).parents[2]
DAY_S: Final = 24 * 60 * 60.0


def simulate(data: DataSet, env: Mapping[str, str]) -> None:
    """Generate a small simulated feed in the folder, unless it holds exports."""
    if not data.exports:
        with step("Simulated a small feed of made-up users (DATA=<folder> takes your own)"):
            data.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".simulated-", dir=data.folder) as scratch:
                log = data.folder / "simulate.log"
                run_program("simulate", ["retrain", "simulate", "--output", scratch], env, log=log)
                # The exports go last: with them the data set is whole.
                for part in sorted(Path(scratch).iterdir(), key=lambda path: path.name == "exports"):
                    part.rename(data.folder / part.name)


def prepare(data: DataSet, env: Mapping[str, str]) -> None:
    """Create the schema, import the data set as history, and train a model if none is live.

    What the gate refuses is no reason not to start: users get what is trending until a model is live.
    """
    with step("Database schema"):
        run_program("migrate", ["bridge", "migrate"], env)
    with step("History in Postgres") as current:
        seeded = seed(env["DATABASE_URL"], data)
        current.title = f"History in Postgres: {seeded.rows:,} new interactions and videos"
    if seeded.left_out:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(seeded.left_out.items()))
        say(f"  Left out, with what is wrong with them: {reasons}")
    if not has_model(env["MODEL_STORE_URL"]):
        say("  No model is live yet: training one\n")
        with step("First model") as current:
            if run_program("retrain", ["retrain", "run"], env, foreseen=REJECTED):
                current.title = "First model: refused by the gate, as told above"


def make_signing_key(env: Mapping[str, str]) -> None:
    """Create the key that signs models unless it exists, and sign an unsigned live model."""
    if Path(env["MODEL_SIGNING_KEY_FILE"]).exists():
        return
    run_program("key", ["retrain", "key", env["MODEL_SIGNING_KEY_FILE"]], env, log=Path(os.devnull))
    live = _live_version(env["MODEL_STORE_URL"])
    if live:
        run_program("sign", ["retrain", "sign", live], env)


def has_model(store_url: str) -> bool:
    """Return whether a model is live in the store."""
    return _live_version(store_url) is not None


def _live_version(store_url: str) -> str | None:
    try:
        pointer = open_store(store_url).read("current.json").data
    except ObjectNotFoundError:
        return None
    return str(json.loads(pointer)["version"])


def run_program(
    name: str, module: list[str], env: Mapping[str, str], *, log: Path | None = None, foreseen: int = 0
) -> int:
    """Run a program of the system to its end, show or log its output, and return its status.

    What is shown is what it prints for people, and of its log events the errors, unless LOG_LEVEL asks for more.

    ChildError when it fails with another status than the foreseen one.
    """
    if log is None:
        env = {"LOG_LEVEL": "error", **env}
    program = Child.start(name, [sys.executable, "-m", *module], log=log, env=env, cwd=ROOT)
    try:
        status = program.process.wait(DAY_S)
    finally:
        program.stop()
    if status not in {0, foreseen}:
        raise ChildError(f"{name} failed with status {status}: {program.last_words()}")
    return status


def main() -> None:
    """Prepare for the data set in the folder given."""
    env = dict(os.environ)
    if secret := env.get("DATABASE_URL_FILE"):
        env["DATABASE_URL"] = Path(secret).read_text(encoding="utf-8").strip()
    data = DataSet(Path(sys.argv[1]))
    try:
        simulate(data, env)
        prepare(data, env)
    except ChildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
