"""Ports of servers on this machine: nobody else is given them while such a server is away."""

import random
import socket

import pytest

from api.cli import local_servers
from api.cli.local_servers import free_port


def test_a_port_is_free_and_none_that_the_system_gives_to_whoever_asks() -> None:
    for _ in range(20):
        with socket.create_server(("127.0.0.1", free_port())) as server:
            assert 15_000 <= server.getsockname()[1] < local_servers._first_given_port()


def test_processes_that_draw_the_same_random_numbers_get_other_ports() -> None:
    drawn = []
    for _ in range(2):
        random.seed(7)
        drawn.append([free_port() for _ in range(5)])
    assert drawn[0] != drawn[1]


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]

        class Drawn:
            def sample(self, among: range, count: int) -> list[int]:
                return [taken] * count

        monkeypatch.setattr("secrets.SystemRandom", Drawn)
        assert free_port() != taken
