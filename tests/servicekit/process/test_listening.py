"""An address that is taken: who passes by is waited for, and who stays is named."""

import os
import socket
from collections.abc import Iterator

import pytest

from servicekit.process.listening import (
    AddressTakenError,
    held,
    holder,
    is_listened_on,
    naming_the_holder,
    wait_until_free,
)
from servicekit.process.ports import free_port, is_free


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, str]]:
    """An open connection: the socket at its near end, and the address that this has."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            yield client, f"127.0.0.1:{client.getsockname()[1]}"


@pytest.mark.peer
def test_an_outgoing_connection_is_waited_for(connection: tuple[socket.socket, str]) -> None:
    client, address = connection
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no TIME_WAIT
            client.close()

    wait_until_free(address, sleep=sleep)
    assert len(looks) == 3


@pytest.mark.peer
def test_one_that_stays_is_named(connection: tuple[socket.socket, str]) -> None:
    _, address = connection
    times = iter(range(100))
    with pytest.raises(AddressTakenError) as refused:
        wait_until_free(address, timeout_s=5, sleep=lambda _: None, clock=lambda: next(times))
    assert str(refused.value).startswith(f"Failed to bind to address {address}: it is in use by ")
    assert str(refused.value).endswith(f" (pid {os.getpid()})")


@pytest.mark.peer
def test_a_server_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AddressTakenError, match=rf"\(pid {os.getpid()}\)"):
            wait_until_free(f"127.0.0.1:{port}", sleep=lambda _: pytest.fail("it waited"))
        assert is_listened_on(port)
        with pytest.raises(AddressTakenError, match="in use by"), naming_the_holder(f"127.0.0.1:{port}"):
            raise RuntimeError(f"Failed to bind to address 127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:/run/x", "50051", "localhost:http"])
def test_what_is_no_fixed_port_is_left_to_the_server(address: str) -> None:
    wait_until_free(address, sleep=lambda _: pytest.fail("it waited"))


@pytest.mark.peer
def test_a_held_port_is_nobodys_near_end_and_free_afterwards() -> None:
    port = free_port()
    with held(f"127.0.0.1:{port}"), socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        assert holder(port) == "", "it does not listen, so the kernel does not tell"
    assert is_free("127.0.0.1", port)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="another"), naming_the_holder("127.0.0.1:1"):
        raise RuntimeError("another")
