"""Ends an asyncio server's call with an error, also one whose caller has left."""

import asyncio
from typing import Any, NoReturn

import grpc
from grpc import aio


async def abort(context: "aio.ServicerContext[Any, Any]", status: grpc.Status) -> NoReturn:
    """End a call with a status; CancelledError where its caller has left, as gRPC itself raises once it knows.

    Until then gRPC takes the failure to send for a defect of the handler, and logs it with its trace.
    """
    try:
        await context.abort_with_status(status)
    except aio.InternalError:
        raise asyncio.CancelledError from None
    raise AssertionError("a call went on after its end")  # gRPC has raised
