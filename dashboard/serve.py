"""Starts the dashboard's server, by default only reachable from this machine."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dashboard import theme
from nas.errors import NasError

SERVER = Path(__file__).with_name("server.py")
STORAGE_VARIABLE = "NAS_STORAGE"


def serve(url: str, host: str = "127.0.0.1", port: int = 8501, *, allow_remote: bool = False) -> int:
    """Serve the database at `url` until interrupted and return the server's exit status. Raises like `command`.

    The URL is passed in the environment, since all users can see a command line and a password in it.
    """
    arguments = command(None, host, port, allow_remote=allow_remote)
    try:
        return subprocess.run(arguments, env={**os.environ, STORAGE_VARIABLE: url}, check=False).returncode
    except KeyboardInterrupt:
        return 0


def command(url: str | None, host: str = "127.0.0.1", port: int = 8501, *, allow_remote: bool = False) -> list[str]:
    """Return arguments for `subprocess.run` that serve the database at `url` on `http://host:port`.

    Without a `url` the server reads the environment variable NAS_STORAGE.

    Raises:
        NasError: the port is invalid, or other machines can reach the host and `allow_remote` is not set. The pages
            have no login: everyone who reaches the port can read every study.
    """
    if not 1 <= port <= 65535:
        raise NasError(f"port {port} is not between 1 and 65535; leave it out for 8501")
    if not allow_remote and not is_loopback(host):
        raise NasError(
            f"host {host!r} can be reached from other machines and the dashboard has no login; "
            "use 127.0.0.1, or allow remote access explicitly"
        )
    return [sys.executable, "-m", "streamlit", "run", str(SERVER), *_flags(host, port), *(["--", url] if url else [])]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host: `localhost`, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _flags(host: str, port: int) -> Iterator[str]:
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "logger.level": "warning",
        "runner.magicEnabled": "false",
        **theme.SERVER_THEME,
    }
    for name, value in options.items():
        yield f"--{name}={value}"
