"""PostgreSQL for benchmarks and tests: a server from the programs of the Debian package, thrown away afterwards."""

import importlib.util
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

from nas.errors import NasError


def programs() -> Path | None:
    """The folder of the server's programs, which Debian keeps off the path; None where there are none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def missing() -> str:
    """What this machine lacks for it; empty where nothing is missing."""
    if importlib.util.find_spec("psycopg") is None:
        return "needs the driver of PostgreSQL: pip install nas[postgresql]"
    return "" if programs() else "needs the programs of PostgreSQL, for instance the Debian package postgresql-15"


@dataclass(frozen=True)
class Server:
    """A server that can be stopped and started again with its data."""

    folder: Path
    port: int
    control: Sequence[str | Path]
    waits_for_disk: bool

    @property
    def url(self) -> str:
        """Up to the name of the database; `postgres` is there."""
        return f"postgresql+psycopg://nas@127.0.0.1:{self.port}"

    def start(self) -> None:
        places = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options = ["-o", f"-p {self.port} {places} -c fsync={'on' if self.waits_for_disk else 'off'}", "start"]
        subprocess.run([*self.control, *options], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self, mode: str = "immediate") -> None:
        subprocess.run([*self.control, "-m", mode, "stop"], check=True, capture_output=True, cwd="/")

    @classmethod
    @contextmanager
    def throw_away(cls, *, waits_for_disk: bool = False) -> Iterator[Self]:
        """A server on a free local port, its data in the system's temporary folder.

        Args:
            waits_for_disk: at every commit, as a server does unless it is told otherwise.

        Raises:
            NasError: PostgreSQL or its driver is missing.
        """
        found = programs()
        if found is None or importlib.util.find_spec("psycopg") is None:
            raise NasError(missing())
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # the server refuses to run as root
        folder = Path(tempfile.mkdtemp(prefix="nas-postgresql-"))
        if user:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        begin = [*user, found / "initdb", "-D", folder / "data", "-U", "nas", "-A", "trust", "-E", "UTF8"]
        subprocess.run(begin, check=True, capture_output=True, cwd="/")
        control = [*user, found / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w"]
        server = cls(folder, port, control, waits_for_disk)
        server.start()
        try:
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder)
