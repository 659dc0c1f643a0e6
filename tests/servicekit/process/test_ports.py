"""Ports that servers of this machine are given."""

import socket

import pytest

from servicekit.process import ports

pytestmark = pytest.mark.peer


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = ports.free_port()
        monkeypatch.setattr(ports, "PORTS", (taken.getsockname()[1], free))
        assert {ports.free_port() for _ in range(50)} == {free}
