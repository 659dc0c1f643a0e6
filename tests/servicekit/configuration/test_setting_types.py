"""A setting that cannot be right is refused at start."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from servicekit.configuration.setting_types import (
    Addresses,
    Brokers,
    FileToWrite,
    Folder,
    HttpUrl,
    ListenAddress,
    Memory,
    Number,
    PostgresUrl,
    Readable,
    ReadableFile,
    SecretPostgresUrl,
    StoreUrl,
)

HERE = Path(__file__)
GOOD: list[tuple[Any, str]] = [
    (Number, "1.5"),
    (Number, "-2e3"),
    (ListenAddress, "127.0.0.1:0"),
    (ListenAddress, "[::]:50051"),
    (ListenAddress, "localhost:50051"),
    (ListenAddress, "unix:/run/recsvc.sock"),
    (Addresses, "recsvc:50051"),
    (Addresses, "a:1,b:2, c:3"),
    (Addresses, "dns:///recsvc.internal:50051"),
    (Addresses, "ipv4:10.0.0.1:50051,10.0.0.2:50051"),
    (Addresses, "ipv6:[::1]:50051"),
    (Addresses, "unix:/run/recsvc.sock"),
    (Brokers, "kafka-1:9092,kafka-2"),
    (Brokers, "SASL_SSL://kafka-1:9092,"),
    (StoreUrl, "file:///models"),
    (StoreUrl, "s3://bucket/a#b?c"),
    (HttpUrl, "https://api.segment.io/v1/batch"),
    (HttpUrl, "http://[::1]:8080"),
    (PostgresUrl, "postgresql://u:p@h:5432/d?sslmode=require"),
    (PostgresUrl, "postgresql://u:p@h1:5432,h2:5433/d"),
    (PostgresUrl, "host=h dbname=d"),
    (Memory, "2GiB"),
    (Memory, "1.5TB"),
    (Readable, str(HERE.parent)),
    (ReadableFile, str(HERE)),
    (FileToWrite, str(HERE.parent / "new" / "file.json")),
    (FileToWrite, "report.html"),
    (Folder, str(HERE.parent / "new")),
]
BAD: list[tuple[Any, str]] = [
    *((Number, text) for text in ("nan", "inf", "-inf", "1e400", "1e300", "x", "")),
    *((ListenAddress, text) for text in ("", "50051", ":50051", "host", "host:", "host:x", "host:65536", "::1:50051")),
    *((ListenAddress, text) for text in ("http://host:1", "a b:1", "host:1\n", "host:٣", "unix:", "a:1,b:2", "h:-1")),
    *((Addresses, text) for text in ("", "host", "host:0", "a:1,,b:2", "dns:///", "http://a:1", "a:1 b:2")),
    *((Brokers, text) for text in ("", ",", "kafka:x", "kafka:99999", "ka fka:1")),
    *((StoreUrl, text) for text in ("", "models", "http://a", "file://", "file:///", "file://host/a", "s3://")),
    *(
        (HttpUrl, text)
        for text in ("", "api.segment.io", "ftp://a", "http://", "http://a:x", "http://[::1", "http://a b")
    ),
    *((PostgresUrl, text) for text in ("", "x", "mysql://u:p@h/d", "postgresql://h:x/d", "postgresql://h\n/d")),
    *((Memory, text) for text in ("", "lots", "2", "2GB\n", "0KB", "1KiB", "٣GiB", "9999TiB", "-1GiB")),
    (Readable, "/nowhere/at/all"),
    (ReadableFile, str(HERE.parent)),
    (ReadableFile, "/nowhere/at/all"),
    (FileToWrite, str(HERE.parent)),
    (FileToWrite, str(HERE / "below")),
    (FileToWrite, f"/{'x' * 5000}/a"),
    (FileToWrite, "a\0b"),
    (Folder, str(HERE)),
    (Folder, str(HERE / "below")),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_what_may_be_right_is_taken(kind: Any, text: str) -> None:
    TypeAdapter(kind).validate_python(text)


@pytest.mark.parametrize(("kind", "text"), BAD)
def test_what_cannot_be_right_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


def test_what_is_too_small_to_count_with_is_nothing() -> None:
    assert TypeAdapter[float](Number).validate_python("5e-324") == 0.0


@pytest.mark.parametrize("kind", [PostgresUrl, SecretPostgresUrl])
def test_a_password_is_not_in_the_refusal(kind: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python("postgresql://u:sesame@h:x/d")
    assert all("sesame" not in problem["msg"] for problem in refused.value.errors())


def test_the_home_folder_may_be_a_tilde() -> None:
    assert TypeAdapter[Path](Folder).validate_python("~/models") == Path.home() / "models"
