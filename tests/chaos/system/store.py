"""The model store on an S3 server that can stop answering."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from tests.support.s3 import new_bucket, s3_server
from tests.support.s3_faults import Fault, Faults, Kind, faulty

logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the S3 server tells of each request

POINTER = "current.json"


class Store:
    """Models under a URL.

    Args:
        upstream: Environment that leads boto3 to the server itself.
        environment: The same, through what makes it hang.
        faults: What is to go wrong on that way.
    """

    def __init__(self, upstream: dict[str, str], environment: dict[str, str], faults: Faults) -> None:
        self.environment = environment
        self._faults = faults
        self._bucket = new_bucket(upstream)
        self.url = f"s3://{self._bucket}/models"
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=upstream["AWS_ENDPOINT_URL_S3"],
            region_name="us-east-1",
            aws_access_key_id=upstream["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=upstream["AWS_SECRET_ACCESS_KEY"],
        )

    def publish(self, folder: Path, version: str) -> None:
        """Copy a version from a store on disk, and then the pointer that makes it live."""
        files = [path for path in (folder / version).rglob("*") if path.is_file()]
        for path in [*sorted(files, key=lambda one: one.name == "manifest.json"), folder / POINTER]:
            key = f"models/{path.relative_to(folder)}"
            self._client.put_object(Bucket=self._bucket, Key=key, Body=path.read_bytes())

    def hang(self) -> None:
        """Take requests and answer none."""
        self._faults.planned[:] = [Fault(kind=Kind.SILENCE, method=one, path="") for one in ("GET", "PUT", "HEAD")]

    def heal(self) -> None:
        """Answer again; those who wait are hung up on."""
        self._faults.planned.clear()
        waiting, self._faults.over = self._faults.over, threading.Event()
        waiting.set()


@contextmanager
def running_store() -> Iterator[Store]:
    """Run an empty store."""
    with s3_server() as upstream, faulty(upstream) as (environment, faults):
        yield Store(upstream, environment, faults)
