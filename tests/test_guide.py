"""The guide: its code and commands run, its links lead somewhere, and its page of messages is up to date."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
import typer.main

from nas.cli import app
from nas.examples import KINDS
from tests.nas.command import Nas, caller

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PAGES = sorted(path.name for path in GUIDE.glob("*.md"))
SHORT = """
from dataclasses import replace as _replace
run = _replace(
    run, training=_replace(run.training, steps=12), evaluations=6, batch=3, trust_networks=3, trust_steps=2
)
"""
"""Added to run files when the guide is run: the same search, soon ended."""


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of a page in order: what is said of each after the fence, and its lines."""
    text = (GUIDE / page).read_text(encoding="utf-8")
    return re.findall(r"^```([a-z ]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line) for kind, lines in blocks(page) if kind == "sh" for line in lines.splitlines()]


def shorten(folder: Path) -> None:
    """Makes the searches of all run files in a folder short."""
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if SHORT not in text:
            file.write_text(text + SHORT, encoding="utf-8")


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    for name in ("NAS_STORAGE", "NAS_RUNS"):
        monkeypatch.delenv(name, raising=False)
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (GUIDE / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (GUIDE / target).exists(), f"{page} links {target}"
    assert page == "README.md" or f"]({page})" in (GUIDE / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run_or_read(page: str) -> None:
    for kind, lines in blocks(page):
        assert kind in ("python", "python theirs", "sh"), f"{page} has a block of {kind!r}"
        if kind != "sh":
            ast.parse(lines)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for words in commands(page):
        assert words[0] == "nas", f"{page}: {words}"
        found: click.Command = typer.main.get_command(app)
        rest = words[1:]
        while hasattr(found, "commands"):
            found = found.commands[rest.pop(0)]
        known = {name for parameter in found.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, f"{page}: {words}"


def test_every_kind_of_task_is_named_at_the_start() -> None:
    text = (GUIDE / "start.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in text for kind in KINDS)


def test_every_verdict_is_explained() -> None:
    """The words that a verdict begins with, as they are written where it is given."""
    source = (GUIDE.parents[1] / "supernets" / "ranking.py").read_text(encoding="utf-8")
    heads = ("The ranks", "The inherited ranks", "Not determined", "No better")
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    said = [text for text in constants if isinstance(text, str) and text.startswith(heads)]
    text = re.sub(r"\s+", " ", (GUIDE / "trust.md").read_text(encoding="utf-8"))
    assert len(said) >= 7
    for words in said:
        beginning = " ".join(re.split(r"[;(:{]", words.removeprefix("Not determined: "))[0].split()[:3])
        assert beginning in text, f"trust.md does not explain {words!r}"


def test_the_page_of_messages_is_up_to_date() -> None:
    written = runpy.run_path(str(GUIDE / "errors.py"))["page"]()
    found = (GUIDE / "errors.md").read_text(encoding="utf-8")
    assert found == written, "run python docs/guide/errors.py"
    assert "give another name, or say --force to overwrite it" in found, "what this function says"
    assert "a run file is Python, give a name that ends in .py" in found


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != "errors.md"])
def test_a_page_runs_from_its_beginning_to_its_end(
    page: str, nas_: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    for kind, lines in blocks(page):
        file = re.match(r"# (\w+\.py)\n", lines)
        if kind == "python" and file:
            (tmp_path / file.group(1)).write_text(lines, encoding="utf-8")
            shorten(tmp_path)
        elif kind == "python":
            exec(lines, names)
        for line in lines.splitlines() if kind == "sh" else []:
            answer = nas_(*shlex.split(line)[1:])
            assert answer.status == 0, f"{line}: {answer.err}"
            shorten(tmp_path)
