"""Defines the types of settings: a wrong variable is reported by name at start, not when it is used."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, AllowInfNan, SecretStr

from servicekit.inputs.numbers import finite, read_number
from servicekit.storage.store_url import check_store_url

MAX_PORT: Final = 65_535
MIN_MEMORY: Final = 16 << 20
MAX_MEMORY: Final = 1 << 50
DAY_S: Final = 86_400.0
YEAR_S: Final = 366 * DAY_S
_MEMORY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGT])(i?)B")

Number: TypeAlias = Annotated[float, AllowInfNan(False), AfterValidator(finite)]  # noqa: FBT003  # pydantic's own
"""A float of a setting: finite. Its field adds the bounds, `ge` and `le`; a test refuses one without."""


@dataclass(frozen=True, slots=True)
class Formerly:
    """Marks a renamed setting: its former name works, and a line at start gives the new one.

    Attributes:
        name: The former name, in upper case.
    """

    name: str


@dataclass(frozen=True, slots=True)
class InFile:
    """Marks a setting besides secrets that may stand in a file, such as a key of many lines."""


def _listen_address(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == len("unix:"):
            raise ValueError("names no socket")
        return value
    _host_and_port(value, "host:port to listen on, such as 127.0.0.1:50051 or [::]:50051")
    return value


def _addresses(value: str) -> str:
    rest = value
    for scheme in ("dns:///", "dns://", "dns:", "ipv4:", "ipv6:", "unix:", "xds:", "passthrough:"):
        if value.startswith(scheme):
            rest = value.removeprefix(scheme)
            break
    if scheme in ("dns://", "unix:", "xds:", "passthrough:") and rest != value:
        return value  # gRPC knows their form
    for address in rest.split(","):
        _host_and_port(address.strip(), "host:port", least=1)
    return value


def _brokers(value: str) -> str:
    brokers = [broker for broker in value.split(",") if broker.strip()]  # as the client does
    if not brokers:
        raise ValueError(f"{value!r} names no broker")
    for broker in brokers:
        address = broker.strip().rpartition("://")[2]
        if ":" not in address.rpartition("]")[2]:
            address += ":9092"  # as the client fills it in
        _host_and_port(address, "host:port,...", least=1)
    return value


def _host_and_port(address: str, form: str, *, least: int = 0) -> None:
    host, _, port = address.rpartition(":")
    whole = host.strip("[]") if host.startswith("[") and host.endswith("]") else host
    odd = not whole or any(sign in whole for sign in "/@,[]") or (whole == host and ":" in whole)
    if odd or not (host + port).isprintable() or " " in address:
        raise ValueError(f"{address!r} is not {form}")
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or not least <= int(port) <= MAX_PORT:
        raise ValueError(f"{address!r} names no port from {least} to {MAX_PORT}")


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        good = False
    if not good or not value.isprintable() or " " in value:
        raise ValueError(f"{value!r} is not https://host:port")
    return value


def _postgres_url(value: str) -> str:
    # Whatever is wrong, the text holds a password and is not shown.
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("postgresql", "postgres") and value.isprintable()
        if good and "," not in parts.netloc:  # several hosts have ports that urlsplit does not read
            _ = parts.port
    except ValueError:
        good = False
    if not good and not ("=" in value and "://" not in value):  # libpq's other form, host=... dbname=...
        raise ValueError("is not a postgresql:// URL")
    return value


def _secret_postgres_url(value: SecretStr) -> SecretStr:
    _postgres_url(value.get_secret_value())
    return value


def memory_size(text: str) -> str:
    """Return an amount of memory such as 2GiB; ValueError for an invalid one, or one that no program can work with."""
    match = _MEMORY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no amount of memory, such as 2GiB")
    amount = read_number(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2]) + 1)
    if not MIN_MEMORY <= amount <= MAX_MEMORY:
        raise ValueError(f"{text} is not from 16MiB to 1024TiB")
    return text


def _plain_path(value: Path) -> Path:
    if not str(value).isprintable():
        raise ValueError("holds a character that cannot be printed")
    try:
        path = value.expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that may not be read, nobody's home
        raise ValueError(str(error)) from None
    return path


def _readable(value: Path) -> Path:
    path = _plain_path(value)
    if not path.exists():
        raise ValueError(f"there is no {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path} may not be read")
    return path


def _readable_file(value: Path) -> Path:
    path = _readable(value)
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    return path


def _file_to_write(value: Path) -> Path:
    path = _plain_path(value)
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    _below_a_folder(path.parents)
    return path


def _folder(value: Path) -> Path:
    path = _plain_path(value)
    _below_a_folder((path, *path.parents))
    return path


def _below_a_folder(paths: Iterable[Path]) -> None:
    nearest = next((path for path in paths if path.exists()), None)
    if nearest and not nearest.is_dir():
        raise ValueError(f"{nearest} is no folder")


ListenAddress: TypeAlias = Annotated[str, AfterValidator(_listen_address)]
"""`host:port`; port 0 is any free one."""
Addresses: TypeAlias = Annotated[str, AfterValidator(_addresses)]
"""One or several of `host:port`, or a name that gRPC looks up."""
Brokers: TypeAlias = Annotated[str, AfterValidator(_brokers)]
StoreUrl: TypeAlias = Annotated[str, AfterValidator(check_store_url)]
HttpUrl: TypeAlias = Annotated[str, AfterValidator(_http_url)]
PostgresUrl: TypeAlias = Annotated[str, AfterValidator(_postgres_url)]
SecretPostgresUrl: TypeAlias = Annotated[SecretStr, AfterValidator(_secret_postgres_url)]
Readable: TypeAlias = Annotated[Path, AfterValidator(_readable)]
"""A file or a folder."""
Memory: TypeAlias = Annotated[str, AfterValidator(memory_size)]
ReadableFile: TypeAlias = Annotated[Path, AfterValidator(_readable_file)]
FileToWrite: TypeAlias = Annotated[Path, AfterValidator(_file_to_write)]
Folder: TypeAlias = Annotated[Path, AfterValidator(_folder)]
