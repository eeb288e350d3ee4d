"""Databases of earlier versions, with all that they hold, brought to the newest."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from nas.migrations import tables
from nas.records import Evaluation, Life
from nas.storage import Repository
from tests.contracts.repository import STUDY, batch, evaluation, with_study

SOME = [
    *batch(0, 1),
    evaluation(2, metrics={}, error="out of memory: ü"),
    evaluation(3, metrics={"latency_ms@cpu": 1e-300, "error": 0.1, "naïve \x00 \ud800 '": -0.0}, worker=""),
]
VERIFIED = {SOME[0].arch.digest: {"latency_ms@cpu": 1.25}}


@contextmanager
def begun(url):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def config(connection=None):
    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", "nas:migrations")
    made.set_main_option("version_locations", "nas:migrations/versions")
    made.set_main_option("path_separator", "newline")
    return made


REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def write_first(connection, evaluations: list[Evaluation]) -> None:
    """A study as the first version stored it; databases number its rows themselves, as they did then."""

    def insert(table, **row):
        connection.execute(sa.insert(sa.table(table, *map(sa.column, row))).values(**row))

    insert("spaces", digest="space-1", name="Net", declaration=json.dumps({"width": {"options": [1, 2], "when": None}}))
    texts = {"objectives": STUDY.objectives, "limits": STUDY.limits, "settings": STUDY.settings}
    row = {name: getattr(STUDY, name) for name in STUDY.__dataclass_fields__ if name != "wanted"}
    insert("studies", **row | {name: json.dumps(value) for name, value in texts.items()})
    insert("contexts", weights="w", data="d")
    for number, one in enumerate(evaluations):
        insert("architectures", digest=one.arch.digest, json=one.arch.json())
        key = {"context_id": 1, "architecture_id": number + 1, "attempt": 0}
        content = {"metrics": json.dumps(one.metrics), "error": one.error, "seconds": one.seconds, "worker": one.worker}
        insert("evaluations", **key, **content)
        insert("study_evaluations", study_id=1, position=number, **key)
    for number, one in enumerate(evaluations):
        if one.arch.digest in VERIFIED:
            metrics = json.dumps(VERIFIED[one.arch.digest])
            insert("verified", study_id=1, architecture_id=number + 1, metrics=metrics)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/nas.db"


def check_upgrade(url: str, revision: str) -> None:
    with begun(url) as connection:
        command.upgrade(config(connection), REVISIONS[0])
        write_first(connection, SOME)
        command.upgrade(config(connection), revision)
    assert Repository.upgrade(url) == (revision, tables.VERSION)
    with Repository(url) as repository:
        assert repository.studies() == [STUDY]
        assert repository.evaluations("first") == SOME
        assert repository.verified("first") == VERIFIED
        assert repository.lives("first") == dict.fromkeys(range(len(SOME)), Life())
        repository.store_evaluations("first", dict(enumerate(SOME)), "w", "d")
        repository.append_evaluations("first", [*batch(5), evaluation(6, metrics={"new": 1.0})], "w", "d")
        with_study(repository, "second").append_evaluations("second", batch(0), "w", "d")
        with repository._reading() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(tables.evaluations)).scalar()
        assert count == len(SOME) + 2, "an equal evaluation is known again"


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_version_is_upgraded_with_its_data(url: str, revision: str) -> None:
    check_upgrade(url, revision)
