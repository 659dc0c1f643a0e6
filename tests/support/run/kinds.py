"""What a test needs, as markers that nobody has to write: known by its folder and its fixtures."""

from typing import Final

import pytest

UNIT: Final = "unit"
PEER: Final = "peer"
PROCESS: Final = "process"
SYSTEM: Final = "system"
KINDS: Final = {
    UNIT: "needs no socket and no process: make test-fast",
    PEER: "speaks to a real peer: Postgres, Kafka, S3, Snowflake, a gRPC server",
    PROCESS: "starts a process, such as one of the programs",
    SYSTEM: "starts a whole stack",
}
STACKS: Final = {"end_to_end", "chaos", "consistency", "fuzz"}
PROGRAMS: Final = "system"
"""The folder of a package's tests that start its program."""
PROCESS_FIXTURES: Final = {"trained", "copied", "chromium"}
PEER_FIXTURES: Final = {
    "dogstatsd", "grpcurl", "kafka_bootstrap", "own_kafka", "own_postgres", "postgres_server", "postgres_url",
    "s3_environment",
}  # fmt: skip


def kind_of(item: pytest.Item) -> str:
    """Return the marker that a test has, else the one that its folder and fixtures tell."""
    for marker in item.iter_markers():  # those of the function come before those of its module
        if marker.name in KINDS:
            return marker.name
    folders = {folder.name for folder in item.path.parents}
    fixtures = set(getattr(item, "fixturenames", ()))
    if folders & STACKS:
        return SYSTEM
    if item.path.parent.name == PROGRAMS or fixtures & PROCESS_FIXTURES:
        return PROCESS
    return PEER if fixtures & PEER_FIXTURES else UNIT
