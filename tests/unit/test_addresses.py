import socket
from typing import Any

import pytest

from indexer.addresses import is_public, require_public_literal, resolve
from indexer.errors import InvalidRequest, Unavailable


def _answers(*addresses: str) -> Any:
    def resolver(host: str, port: int, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolver


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::7f00:1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db8::1",
    ],
)
def test_addresses_of_private_and_special_networks_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "db.internal", "nas.local", "[::1]", "10.1.2.3"]
)
def test_a_host_that_is_private_by_its_name_is_refused_without_a_look_up(host: str) -> None:
    with pytest.raises(InvalidRequest, match="private network"):
        require_public_literal(host)
    require_public_literal("example.org")
    require_public_literal("8.8.8.8")


def test_a_name_that_leads_to_one_private_address_among_public_ones_is_refused() -> None:
    mixed = _answers("8.8.8.8", "10.0.0.1")
    with pytest.raises(InvalidRequest, match="leads into a private network"):
        resolve("rebind.example", 443, allow_private=False, resolver=mixed)
    assert resolve("rebind.example", 443, allow_private=True, resolver=mixed) == ["8.8.8.8", "10.0.0.1"]
    assert resolve("a.example", 443, allow_private=False, resolver=_answers("8.8.8.8", "8.8.8.8")) == ["8.8.8.8"]


def test_a_name_without_an_address_may_have_one_later() -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    for resolver in (fails, _answers()):
        with pytest.raises(Unavailable, match=r"name nowhere\.example"):
            resolve("nowhere.example", 443, allow_private=False, resolver=resolver)
