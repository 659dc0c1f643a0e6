"""S3 servers for boto3's usual configuration to find: moto's in this process, and SeaweedFS beside it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from servicekit.process.ports import free_port, is_open
from tests.support.polling import wait_for

CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_IDENTITY: Final = {
    "name": "test",
    "credentials": [{"accessKey": "test", "secretKey": "test"}],
    "actions": ["Admin", "Read", "Write", "List"],
}
WEED: Final = str(Path(sys.executable).with_name("weed"))


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run a server and yield the environment that leads boto3 to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}
    finally:
        server.stop()


@contextmanager
def seaweedfs_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run SeaweedFS, whose conditional writes are atomic, and yield the environment that leads boto3 to it."""
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = {name: free_port() for name in (*names, "s3.port", "s3.port.grpc")}
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [_IDENTITY]}), encoding="utf-8")
    settings = {
        **{name: str(port) for name, port in ports.items()},
        "dir": str(folder),
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": "16",
        "volume.max": "1000",  # each bucket takes several
        "s3.config": str(config),
    }
    command = [WEED, "server", "-s3", "-filer", *(f"-{name}={value}" for name, value in settings.items())]
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3.port']}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(
                lambda: is_open(ports["s3.port"]) and _answers(environment),
                interval_s=0.2,
                what="SeaweedFS",
                timeout_s=60,
            )
            yield environment
        finally:
            process.kill()  # SIGTERM is ignored
            process.wait()


def _answers(environment: dict[str, str]) -> bool:
    try:
        new_bucket(environment)
    except (BotoCoreError, ClientError):
        return False
    return True


def new_bucket(environment: dict[str, str]) -> str:
    """Make an empty bucket and return its name."""
    name = f"test-{uuid4().hex}"
    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        region_name="us-east-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket=name)
    return name
