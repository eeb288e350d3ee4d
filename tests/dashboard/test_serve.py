import sys

import pytest

from dashboard.app import storage_url
from dashboard.serve import command, is_loopback
from nas.errors import NasError


def test_the_command_serves_on_this_machine_alone() -> None:
    arguments = command("sqlite:///nas.db", port=9000)
    assert arguments[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert "--server.address=127.0.0.1" in arguments
    assert "--server.port=9000" in arguments
    assert "--browser.gatherUsageStats=false" in arguments
    assert arguments[-2:] == ["--", "sqlite:///nas.db"]


def test_without_an_address_the_environment_decides() -> None:
    assert "--" not in command(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_hosts_are_allowed(host: str) -> None:
    assert is_loopback(host)
    command("sqlite://", host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_hosts_are_refused_in_one_line(host: str) -> None:
    with pytest.raises(NasError, match="has no login") as caught:
        command("sqlite://", host)
    assert "\n" not in str(caught.value)
    assert f"--server.address={host}" in command("sqlite://", host, allow_remote=True)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(NasError, match="port"):
        command("sqlite://", port=port)


def test_the_argument_goes_before_the_environment() -> None:
    assert storage_url(["sqlite:///a.db"], {"NAS_STORAGE": "sqlite:///b.db"}) == "sqlite:///a.db"
    assert storage_url([], {"NAS_STORAGE": "sqlite:///b.db"}) == "sqlite:///b.db"
    with pytest.raises(NasError, match="NAS_STORAGE"):
        storage_url([], {})
