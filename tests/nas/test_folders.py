"""A study written as files and read from them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from nas.errors import NasError
from nas.migrations import tables
from nas.records import Life
from nas.storage import Repository
from nas.storage.checking import problems
from nas.storage.folders import JSON, SUMS, TABLE, _sha256, export_study, import_study
from tests.contracts.repository import STUDY, evaluation, with_study
from tests.nas.command import Nas, caller
from tests.nas.test_keeping import content, full
from tests.nas.test_migrations import REVISIONS


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "study"
    with Repository("sqlite://") as source:
        export_study(full(source), "second", folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "study"))


def seal(folder: Path) -> None:
    """Writes hashes of what the files now hold."""
    (folder / SUMS).write_text("".join(f"{_sha256((folder / name).read_bytes())}  {name}\n" for name in (TABLE, JSON)))


def test_a_study_comes_back_from_its_files_and_may_be_read_again(folder: Path, tmp_path: Path) -> None:
    from nas.storage.copying import copy

    with Repository("sqlite://") as source, Repository("sqlite://") as copied, Repository("sqlite://") as there:
        copy(full(source), copied, "second")
        for _ in range(2):
            assert import_study(folder, there) == ("second", 2)
        assert content(there) == content(copied)
        assert list(problems(there)) == []
        again = tmp_path / "again"
        export_study(there, "second", again)
        assert (again / TABLE).read_bytes() == (folder / TABLE).read_bytes()


def test_every_kind_of_evaluation_comes_back(tmp_path: Path) -> None:
    some = {
        0: evaluation(0),
        2: evaluation(1, metrics={}, error="out of memory: ü"),
        3: evaluation(2, metrics={"latency_ms@cpu": 1e-300, "naïve \x00 \ud800 '\"\\": -0.0}, worker=""),
    }
    with Repository("sqlite://") as source, Repository("sqlite://") as there:
        with_study(source).store_evaluations("first", some, "w", "d")
        source.store_evaluations("first", {1: evaluation(3)}, "other", "d")
        assert export_study(source, "first", tmp_path / "study") == 4
        import_study(tmp_path / "study", there)
        assert there.placed_evaluations("first") == source.placed_evaluations("first")
        assert there.contexts("first") == source.contexts("first")
    table = parquet.read_table(tmp_path / "study" / TABLE)
    assert table["position"].to_pylist() == [0, 1, 2, 3] and table["metrics.error"].null_count == 2


def test_the_path_of_code_is_not_taken_over(tmp_path: Path) -> None:
    with Repository("sqlite://") as source, Repository("sqlite://") as there:
        with_study(source)
        source.create_study(replace(STUDY, name="tied", run_file="/somewhere/run.py"))
        export_study(source, "tied", tmp_path / "study")
        import_study(tmp_path / "study", there)
        assert source.study("tied").run_file == "/somewhere/run.py" and there.study("tied").run_file is None


def test_the_commands_export_check_and_import(nas_: Nas) -> None:
    with Repository("sqlite:///nas.db") as repository:
        full(repository)
    assert nas_("storage", "export", "second", "out") == (0, "second: 2 evaluations written to out\n", "")
    assert nas_("check", "out").status == 0, "hashes are written as those of other exports"
    answer = nas_("storage", "import", "out", "--storage", "sqlite:///other.db")
    assert answer == (0, "second: 2 evaluations are in sqlite:///other.db\n", "")
    answer = nas_("storage", "export", "second", "out")
    assert answer.status == 1 and "out is there already; name a folder that is new or empty" in answer.err
    assert nas_("storage", "export", "third", "new").status == 1 and not Path("new").exists()


@pytest.mark.parametrize("name", [JSON, TABLE, SUMS])
def test_every_flipped_bit_is_found_and_nothing_is_stored(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    step = max(1, len(whole) // 40)
    with Repository("sqlite://") as there:
        for place in range(0, len(whole), step):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << place % 8
            (folder / name).write_bytes(flipped)
            wrong = f"({'|'.join((JSON, TABLE, SUMS))})" if name == SUMS else name  # whichever of the two is right
            with pytest.raises(NasError, match=rf"{wrong} is not as it was written; export the study again"):
                import_study(folder, there)
        (folder / name).unlink()
        with pytest.raises(NasError, match=rf"{name} cannot be read .*; name a folder that nas storage export wrote"):
            import_study(folder, there)
        assert there.studies() == [] and there.spaces() == []


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        document = json.loads((folder / JSON).read_text())
        change(document)
        (folder / JSON).write_text(json.dumps(document))

    return apply


def column(name: str, values: list[Any], kind: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        table = parquet.read_table(folder / TABLE)
        at = table.schema.names.index(name)
        parquet.write_table(table.set_column(at, name, pa.array(values, kind)), folder / TABLE)

    return apply


def as_written_at(revision: str, folder: Path) -> None:
    """Makes of a folder what an export at an earlier revision of the database wrote."""
    document = json.loads((folder / JSON).read_text())
    del document["revision"]
    if revision < "0004":
        del document["study"]["wanted"]
    (folder / JSON).write_text(json.dumps(document, indent=1))
    if revision < "0005":
        table = parquet.read_table(folder / TABLE)
        parquet.write_table(table.drop_columns(["stored", "origin"]), folder / TABLE)
    seal(folder)


@pytest.mark.parametrize("revision", [revision for revision in REVISIONS if revision >= "0003"])
def test_what_earlier_revisions_exported_is_imported(revision: str, folder: Path) -> None:
    with Repository("sqlite://") as now, Repository("sqlite://") as there:
        import_study(folder, now)
        as_written_at(revision, folder)
        assert import_study(folder, there) == ("second", 2)
        assert there.placed_evaluations("second") == now.placed_evaluations("second")
        assert there.contexts("second") == now.contexts("second") and list(problems(there)) == []
        known = now.lives("second") if revision >= "0005" else dict.fromkeys(range(2), Life())
        assert there.lives("second") == known


def test_what_a_newer_revision_exported_is_refused(folder: Path) -> None:
    changed(lambda document: document.update(revision="9999", study="of another kind"))(folder)
    seal(folder)
    newer = rf"study.json is of revision 9999, newer than {tables.VERSION}, .*; run: pip install --upgrade nas"
    with Repository("sqlite://") as there, pytest.raises(NasError, match=newer):
        import_study(folder, there)


MALFORMED = {
    "no JSON": (lambda folder: (folder / JSON).write_text("{"), "study.json is not JSON"),
    "deep JSON": (lambda folder: (folder / JSON).write_text("[" * 100_000), "study.json is nested deeper than 100 lev"),
    "another format": (changed(lambda d: d.update(format=2)), r"at format what a study has not \(Input should be 1\)"),
    "no study": (changed(lambda d: d.pop("study")), r"at study what a study has not \(Field required\)"),
    "a wrong type": (changed(lambda d: d["study"].update(seed="7")), r"at study\.seed what .* valid integer"),
    "no objective": (changed(lambda d: d["study"].update(objectives=[])), "study 'second' has no objective"),
    "verified": (changed(lambda d: d.update(verified={"x": {"error": "low"}})), r"at verified\.x\.error what a study"),
    "no Parquet": (lambda folder: (folder / TABLE).write_bytes(b"PAR1" * 9), "evaluations.parquet is no table of Par"),
    "no columns": (lambda folder: parquet.write_table(pa.table({"a": [1]}), folder / TABLE), "has the columns a, not"),
    "a wrong column": (column("seconds", [1, 2], pa.int64()), "has a column 'seconds' of int64"),
    "twice": (column("position", [1, 1], pa.int64()), "has a position or an architecture twice, or below 0, at pos"),
    "below": (column("position", [-1, 1], pa.int64()), "has a position or an architecture twice, or below 0, at pos"),
    "missing": (column("worker", ["a", None], pa.string()), "has a row without 'worker'"),
    "no architecture": (column("architecture", ["[]", "{}"], pa.string()), "has no architecture"),
    "infinite": (column("seconds", [1.0, float("inf")], pa.float64()), "has a number that is not finite at position 1"),
    "no origin": (column("origin", ["[" * 100_000, "[1]"], pa.string()), "has no origin at position"),
    "both": (column("error", ["bad", None], pa.string()), "has no evaluation at position 0"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_under_right_hashes_is_one_line_and_nothing_is_stored(what: str, folder: Path) -> None:
    change, message = MALFORMED[what]
    change(folder)
    seal(folder)
    with Repository("sqlite://") as there:
        with pytest.raises(NasError, match=message) as raised:
            import_study(folder, there)
        assert "\n" not in str(raised.value)
        assert there.studies() == [] and there.spaces() == []


def test_another_study_of_the_name_is_not_mixed_with(folder: Path) -> None:
    with Repository("sqlite://") as there:
        with_study(there)
        there.create_study(replace(STUDY, name="second", seed=8))
        with pytest.raises(NasError, match="study 'second' is another search"):
            import_study(folder, there)
