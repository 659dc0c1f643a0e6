"""Chooses the kind of thread server that a program serves by."""

from collections.abc import Callable

from servicekit.server.threaded import ThreadedServer


def threaded_server(*, direct: bool) -> Callable[..., ThreadedServer]:
    """Return the class: the one that speaks to gRPC's core, or the one for any release of grpcio."""
    if direct:
        from servicekit.server.thread_server import ThreadServer  # noqa: PLC0415  # needs what is private to gRPC

        return ThreadServer
    from servicekit.server.plain_server import PlainServer  # noqa: PLC0415  # not loaded where it is not used

    return PlainServer
