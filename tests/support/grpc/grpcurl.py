"""Calls from the command line through reflection, as people make them: grpcurl, else `buf curl`."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2

BIN: Final = Path(sys.prefix) / "bin"
BUF_CURL: Final = (str(BIN / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge")
TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call printed.

    Attributes:
        code: The status.
        messages: The reply messages in protobuf's JSON form with names as in the API definition.
        error: The printed status of a failed call, with `message` and `details`.
    """

    code: grpc.StatusCode
    messages: list[Any]
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> Any:
        """The only reply message; AssertionError when the call failed."""
        assert self.code is grpc.StatusCode.OK, self.error
        (message,) = self.messages
        return message

    def detail(self, name: str) -> dict[str, Any]:
        """Return the error detail of a type's short name, such as "BadRequest"."""
        for detail in self.error.get("details", ()):
            kind: str = detail.get("@type") or detail["type"]
            if kind.rpartition(".")[2] == name:
                return _decoded(name, detail["value"]) if "value" in detail else dict(detail)
        raise AssertionError(f"no {name} in {self.error}")

    @property
    def bad_fields(self) -> list[str]:
        """The fields that the error names."""
        return [violation["field"] for violation in self.detail("BadRequest")["field_violations"]]


class Grpcurl:
    """Calls a server in plain text with the program that is there."""

    def __init__(self) -> None:
        found = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(BIN))
        works = found and subprocess.run([found, "-version"], capture_output=True, check=False).returncode == 0
        self._grpcurl = found if works else None  # the wheel holds a program for x86-64 only

    def services(self, address: str) -> list[str]:
        """List the services that the server's reflection names."""
        command = (
            [self._grpcurl, "-plaintext", address, "list"]
            if self._grpcurl
            else [*BUF_CURL, f"http://{address}", "--list-services"]
        )
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        return done.stdout.split()

    def __call__(
        self, address: str, method: str, request: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] = {}
    ) -> Reply:
        """Call `package.Service/Method` with a request in protobuf's JSON form with names as in the API definition."""
        data = json.dumps(request or {})
        pairs = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        if self._grpcurl:
            command = [self._grpcurl, "-plaintext", "-format-error", *pairs, "-d", data, address, method]
        else:
            command = [*BUF_CURL, *pairs, "-d", data, f"http://{address}/{method}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        if done.returncode == 0:
            return Reply(grpc.StatusCode.OK, _documents(done.stdout))
        return _failed(done)


def _failed(done: "subprocess.CompletedProcess[str]") -> Reply:
    try:
        error = _snake_case(json.loads(done.stderr[done.stderr.index("{") :]))
    except ValueError:
        raise AssertionError(f"the call was not made: {done.stderr.strip()}") from None
    return Reply(_code(error["code"]), _documents(done.stdout), error)


def _decoded(name: str, value: str) -> dict[str, Any]:
    """Return an error detail that is printed as base64 of its bytes, as `buf curl` does."""
    detail = getattr(error_details_pb2, name).FromString(base64.b64decode(value + "=="))
    return MessageToDict(detail, preserving_proto_field_name=True)


def _code(shown: int | str) -> grpc.StatusCode:
    if isinstance(shown, str):
        return grpc.StatusCode[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", shown).upper()]
    return next(code for code in grpc.StatusCode if code.value[0] == shown)


def _documents(text: str) -> list[Any]:
    """Return the JSON documents that stand one after the other."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while (position := len(text) - len(text[position:].lstrip())) < len(text):
        document, position = decoder.raw_decode(text, position)
        found.append(_snake_case(document))
    return found


def _snake_case(value: Any) -> Any:
    """Return the value with names as in the API definition: not all programs print protobuf's JSON names."""
    if isinstance(value, dict):
        return {
            re.sub(r"(?<=[a-z0-9])[A-Z]", lambda c: f"_{c[0].lower()}", name): _snake_case(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_snake_case(one) for one in value]
    return value
