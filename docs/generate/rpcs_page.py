"""Generates the page of the RPCs from the protobuf files and their comments."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from docs.generate import markdown, source

INTRODUCTION = """The two services and their messages, as `proto/` defines them. Every error is a `google.rpc.Status`
with one `ErrorInfo`; a bad request has a `BadRequest` as well, which names each bad field."""

_PROTO: Final = source.ROOT / "proto"
_MESSAGE, _SERVICE, _ENUM = 4, 6, 5  # fields of FileDescriptorProto
_FIELD, _NESTED, _NESTED_ENUM, _METHOD, _VALUE = 2, 3, 4, 2, 2
_Comments = dict[tuple[int, ...], str]


def text() -> str:
    """Return the text of the page."""
    parts = [part for file in _files() for part in _sections(file)]
    return markdown.page("RPCs", INTRODUCTION, *parts)


def _files() -> list[FileDescriptorProto]:
    paths = sorted(str(path.relative_to(_PROTO)) for path in _PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "descriptors"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={output}", *paths], cwd=_PROTO, check=True)
        return [*FileDescriptorSet.FromString(output.read_bytes()).file]


def _sections(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(one.path): " ".join(one.leading_comments.split()) for one in file.source_code_info.location}
    for number, service in enumerate(file.service):
        here = (_SERVICE, number)
        rows = [
            (method.name, _input(method.input_type, streams=method.client_streaming),
             _input(method.output_type, streams=method.server_streaming),
             comments.get((*here, _METHOD, place), ""))
            for place, method in enumerate(service.method)
        ]  # fmt: skip
        yield f"## {file.package}.{service.name}\n\n{comments.get(here, '')}"
        yield markdown.table(("RPC", "request", "reply", "meaning"), rows)
    for number, message in enumerate(file.message_type):
        yield from _message(message, (_MESSAGE, number), comments)
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, enum.name, (_ENUM, number), comments)


def _enum(enum: EnumDescriptorProto, title: str, here: tuple[int, ...], comments: _Comments) -> Iterator[str]:
    rows = [(f"`{value.name}`", comments.get((*here, _VALUE, place), "")) for place, value in enumerate(enum.value)]
    yield f"### {title}\n\n{comments.get(here, '')}"
    yield markdown.table(("value", "meaning"), rows)


def _message(message: DescriptorProto, here: tuple[int, ...], comments: _Comments) -> Iterator[str]:
    if message.options.map_entry:
        return
    yield f"### {message.name}\n\n{comments.get(here, '')}"
    if message.field:
        rows = [
            (f"`{field.name}`", _type(field), comments.get((*here, _FIELD, place), ""))
            for place, field in enumerate(message.field)
        ]
        yield markdown.table(("field", "type", "meaning"), rows)
    for number, nested in enumerate(message.nested_type):
        yield from _message(nested, (*here, _NESTED, number), comments)
    for number, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{message.name}.{enum.name}", (*here, _NESTED_ENUM, number), comments)


def _type(field: FieldDescriptorProto) -> str:
    name = (
        field.type_name.rpartition(".")[2] or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    )
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _input(name: str, *, streams: bool) -> str:
    return f"{'stream of ' if streams else ''}{name.rpartition('.')[2]}"
