"""`nas init`: each kind is written, loads as it is, and is searched; nothing is overwritten unasked."""

from pathlib import Path

import pytest

import nas
from nas.examples import KINDS, run_file
from nas.run_file import load
from tests.nas.command import Nas, caller
from tests.nas.test_examples import NEEDS, small


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_written_as_its_example_and_named_after_the_file(kind: str, tmp_path: Path, nas_: Nas) -> None:
    file = tmp_path / "my run.py"
    answer = nas_("init", file, "--task", kind)
    assert answer.status == 0 and f"nas search '{file}'" in answer.out
    written, example = (path.read_text(encoding="utf-8").splitlines() for path in (file, run_file(kind)))
    changed = [new for old, new in zip(example, written, strict=True) if old != new]
    assert len(changed) == 2 and changed[0].startswith("    nas search my run.py")
    assert changed[1] == '    name="my-run",'


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_searched(kind: str, tmp_path: Path, nas_: Nas) -> None:
    for package in NEEDS.get(kind, []):
        pytest.importorskip(package)
    file = tmp_path / "mine.py"
    assert nas_("init", file, "--task", kind).status == 0
    found = nas.search(small(load(file)), storage=f"sqlite:///{tmp_path / 'nas.db'}", directory=tmp_path / "run")
    assert found.study.name == "mine" and found.front


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path, nas_: Nas) -> None:
    file = tmp_path / "mine.py"
    file.write_text("# mine\n")
    answer = nas_("init", file)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == f"error: {file} exists: give another name, or say --force to overwrite it\n"
    assert file.read_text() == "# mine\n"
    assert nas_("init", file, "--force", "--task", "own").status == 0
    assert load(file).name == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine.txt",), "mine.txt: a run file is Python, give a name that ends in .py"),
        (
            ("mine.py", "--task", "video"),
            "no example is called 'video': choose one of image, text, tabular, series, pretrained, own",
        ),
        (("there/mine.py",), "there/mine.py: No such file or directory; see that the place exists"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = nas_("init", *arguments)
    assert answer.status == 1 and answer.err.startswith(f"error: {message}") and answer.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
