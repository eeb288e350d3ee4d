"""A full disk, in every place that writes: one line that names the file, and what was there before is still there.

The disk is full in that no file may become longer than a limit, which a process can ask of the system.
"""

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from nas.storage import Repository
from tests.nas.command import TINY, Nas, caller

DATABASE_ROOM = 32_768  # of the file beside an SQLite database that its readers share


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert caller(patch, _Silent())("search", TINY).status == 0  # type: ignore[arg-type]
    return folder


class _Silent:
    def readouterr(self) -> tuple[str, str]:
        return "", ""


@pytest.fixture
def nas_(searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    monkeypatch.chdir(searched)
    return caller(monkeypatch, capsys)


def contents(folder: Path) -> dict[str, str]:
    """All files but those that an SQLite database has only while it is open."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def require_one_line(err: str) -> None:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    assert "see that the place exists, has room and may be written to" in lines[0] or "disk" in lines[0]


@pytest.mark.parametrize("number", [1, 2])
def test_no_room_for_a_checkpoint_leaves_the_one_before(
    number: int, searched: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supernets import checkpoints

    write, steps = checkpoints.write, []

    def until_full(*arguments: object, **settings: object) -> Path:
        steps.append(arguments[1])
        with room_for(60_000) if len(steps) == number else nullcontext():
            return write(*arguments, **settings)  # type: ignore[arg-type]

    name, folder = f"full-{number}", searched / "runs" / f"full-{number}" / "supernet"
    monkeypatch.setattr(checkpoints, "write", until_full)
    status, _, err = nas_("train", TINY, "--name", name)
    assert status == 1 and steps == [10, 20][:number]
    require_one_line(err)
    assert f"step-{10 * number:09}.safetensors" in err
    assert not list(folder.glob("*.part")), "nothing half written takes up the room"
    monkeypatch.setattr(checkpoints, "write", write)
    assert checkpoints.newest(folder).step == 10 * (number - 1)
    assert nas_("train", TINY, "--name", name).status == 0


@pytest.mark.parametrize("form", ["safetensors", "torch", "onnx"])
def test_no_room_for_an_export(form: str, searched: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    from nas.stages import exporting

    assert nas_("export", "tiny", "--to", "home", "--formats", "safetensors").status == 0
    before, export = contents(searched / "home"), exporting.write

    def without_room(*arguments: object) -> object:
        with room_for(1_000):
            return export(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "write", without_room)
    for place in ("home", "elsewhere"):
        status, _, err = nas_("export", "tiny", "--to", place, "--formats", form)
        assert status == 1
        require_one_line(err)
    assert contents(searched / "home") == before
    assert not [path.name for path in searched.iterdir() if path.name.startswith("elsewhere")]


def test_no_room_in_the_database(searched: Path, nas_: Nas) -> None:
    with Repository(f"sqlite:///{searched / 'nas.db'}", read_only=True) as repository:
        before = repository.evaluations("tiny")
    with room_for(DATABASE_ROOM + 1_000):
        status, _, err = nas_("search", TINY, "--name", "third")
    assert status == 1
    require_one_line(err)
    with Repository(f"sqlite:///{searched / 'nas.db'}", read_only=True) as repository:
        assert repository.evaluations("tiny") == before
    assert nas_("search", TINY, "--name", "third").status == 0
