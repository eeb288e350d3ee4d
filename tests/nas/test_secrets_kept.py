"""A whole search on PostgreSQL, its URL with a password in every place that takes one: nothing it leaves has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.nas.command import TINY
from tests.nas.test_storage_postgresql import postgresql, server  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow
SECRET = "qZ7-hunter-xJ"
ROOT = Path(__file__).parents[2]


def test_rows_files_and_output_of_a_search_have_no_secret(postgresql: str, tmp_path: Path) -> None:  # noqa: F811
    url = postgresql.replace("nas@", f"nas:{SECRET}@") + f"?sslpassword={SECRET}&passfile=/{SECRET}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NAS_STORAGE": url}
    told = ""
    for command in (
        ["--verbose", "search", TINY],
        ["search", TINY, "--storage", url],
        ["--verbose", "export", "tiny", "--to", "taken", "--formats", "safetensors"],
        ["show", "tiny"],
        ["show", "nobody"],
        ["storage", "upgrade"],
        ["--verbose", "front", "nobody"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "nas", *map(str, command)], cwd=tmp_path, env=environment, capture_output=True
        )
        told += f"{done.stdout.decode()}{done.stderr.decode()}"
    assert "Traceback" in told and "exported" in told and "there is: 'tiny'" in told
    assert SECRET not in told and SECRET[2:10] not in told
    engine = sa.create_engine(postgresql)
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        rows = [row for name in names for (row,) in connection.exec_driver_sql(f"SELECT t::text FROM {name} t")]
    engine.dispose()
    assert len(rows) > 50 and not [row for row in rows if SECRET in row]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not [path for path in written if SECRET.encode() in path.read_bytes()]
