"""PostgreSQL as the tests start it: the programs of the Debian package, a server of its own, thrown away afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest


def programs() -> Path | None:
    """The folder of the server's programs, which Debian keeps off the path; None where there are none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass(frozen=True)
class Server:
    """A server that can be stopped and started again with its data."""

    folder: Path
    port: int
    control: Sequence[str | Path]

    @property
    def url(self) -> str:
        """Up to the name of the database; `postgres` is there."""
        return f"postgresql+psycopg://nas@127.0.0.1:{self.port}"

    def start(self) -> None:
        places = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options = ["-o", f"-p {self.port} {places} -c fsync=off", "start"]
        subprocess.run([*self.control, *options], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self, mode: str = "immediate") -> None:
        subprocess.run([*self.control, "-m", mode, "stop"], check=True, capture_output=True, cwd="/")

    @classmethod
    @contextmanager
    def throw_away(cls) -> Iterator[Self]:
        """A server on a free local port; the test is skipped where PostgreSQL or its driver is missing."""
        pytest.importorskip("psycopg", reason="needs the driver of PostgreSQL: pip install nas[postgresql]")
        found = programs()
        if found is None:
            pytest.skip("needs the programs of PostgreSQL, for instance the Debian package postgresql-15")
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # the server refuses to run as root
        folder = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))
        if user:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        begin = [*user, found / "initdb", "-D", folder / "data", "-U", "nas", "-A", "trust", "-E", "UTF8"]
        subprocess.run(begin, check=True, capture_output=True, cwd="/")
        server = cls(folder, port, [*user, found / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w"])
        server.start()
        try:
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder)
