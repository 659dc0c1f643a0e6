"""Prints the commands to type next."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psycopg

from deploy.local.first_model import has_model
from deploy.local.run_folder import State, short

BUSY_USER: Final = """
SELECT user_id, max(video_id) FROM (SELECT user_id, video_id FROM user_interactions LIMIT 20000) AS sample
GROUP BY user_id ORDER BY count(*) DESC, user_id LIMIT 1
"""


def advice(state: State, env: Mapping[str, str]) -> str:
    """Return the lines to print once the system has started."""
    user, video = _example(env["DATABASE_URL"])
    recsvc, bridge, grpcurl = env["RECSVC_LISTEN"], env["BRIDGE_LISTEN"], _grpcurl()
    page = f'{{"user_id": "{user}", "page_size": 5}}'
    like = f'{{"user_id": "{user}", "video_id": "{video}", "interaction_type": "INTERACTION_TYPE_LIKE"}}'
    feed, model = "videowindow.feed.v1", "videowindow.lightfm.v2025_9"
    return f"""
Ready. Type in another terminal:

  {grpcurl} -plaintext {bridge} list
  {grpcurl} -plaintext {bridge} grpc.health.v1.Health/Check
  {grpcurl} -plaintext -d '{page}' {bridge} {feed}.FeedService/GetRecommendations
  {grpcurl} -plaintext -d '{page}' {recsvc} {model}.RecommendationService/Recommend
  {grpcurl} -plaintext {recsvc} {model}.ModelService/GetModel
  {grpcurl} -plaintext -d '{{"interaction": {like}}}' {bridge} {feed}.InteractionService/RecordInteraction

{retraining(state, env)}

DATABASE_URL_FILE={short(state.database_url)}
KAFKA_BOOTSTRAP_SERVERS={env["KAFKA_BOOTSTRAP_SERVERS"]}
Logs: {short(state.logs)}/recsvc.log and bridge.log

Ctrl-C stops everything; the next start takes up where this one ended."""


def retraining(state: State, env: Mapping[str, str]) -> str:
    """Return the command that trains a model as the first one was, and forces it where that was refused."""
    names = ("INTERACTIONS_URL", "CATALOGUE_URL", "MODEL_STORE_URL", "MODEL_SIGNING_KEY_FILE")
    chosen = sorted(name for name in env if name.startswith("RETRAIN_"))
    given = {name: env[name] for name in (*names, *chosen)} | {"DATABASE_URL_FILE": short(state.database_url)}
    command = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
    if has_model(env["MODEL_STORE_URL"]):
        return f"Train and publish a new model; recsvc takes it up by itself:\n\n  {command} make retrain"
    return (
        "No model is live, so users get what is trending. To publish what the gate refused all the same:\n\n"
        f"  {command} make retrain ARGS=--force"
    )


def _example(database: str) -> tuple[str, str]:
    with psycopg.connect(database) as connection:
        return connection.execute(BUSY_USER).fetchone() or ("u1", "v1")


def _grpcurl() -> str:
    return "grpcurl" if shutil.which("grpcurl") else short(Path(sys.prefix) / "bin" / "grpcurl")
