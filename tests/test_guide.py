"""The guide: its code and commands run, its links lead somewhere, and its page of messages is up to date."""

import ast
import re
import runpy
import shlex
import subprocess
import textwrap
from pathlib import Path

import click
import pytest
import typer.main

from nas.commands.app import app
from nas.examples import KINDS
from tests.nas.command import Nas, caller

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = DOCS / "guide"
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
    found = re.findall(r"^( *)```([a-z ]*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [(kind, textwrap.dedent(lines)) for _, kind, lines in found]


def commands(page: str) -> list[list[str]]:
    """Those of `sh` blocks, which are run, and those that are shown among others."""
    kinds = {"sh", "bash theirs"}
    lines = [line for kind, lines in blocks(page) if kind in kinds for line in lines.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("nas ")]


def shorten(folder: Path) -> None:
    """Makes the searches of all run files in a folder short."""
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if SHORT not in text and re.search(r"^run = ", text, re.MULTILINE):
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
        generated = target.startswith("../reference/")
        assert generated or (GUIDE / target).exists(), f"{page} links {target}"
    assert f"](guide/{page})" in (DOCS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run_or_read(page: str) -> None:
    for kind, lines in blocks(page):
        assert kind in ("python", "python theirs", "sh", "bash theirs"), f"{page} has a block of {kind!r}"
        if kind.startswith("python"):
            ast.parse(lines)
        if kind == "sh":  # all of it is run
            assert all(line.startswith("nas ") for line in lines.splitlines()), f"{page}: {lines}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for words in commands(page):
        check_command(words, page)


def check_command(words: list[str], place: str) -> None:
    found: click.Command = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(found, "commands"):
        found = found.commands[rest.pop(0)]
    known = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known, f"{place}: {words}"


def test_the_slurm_script_is_a_script_of_known_commands() -> None:
    script = GUIDE / "cluster" / "search.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    called = re.findall(r"^ *(nas [^&|>\n]*)", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(called) == 2
    for line in called:
        check_command(shlex.split(line), script.name)


def test_the_kubernetes_file_describes_a_job_of_a_known_command() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Ray and with mkdocs")
    job = yaml.safe_load((GUIDE / "cluster" / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert len(images) == 1, "driver and workers have the same environment"
    for group in groups:
        pod = group["template"]["spec"]
        claimed = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= claimed
    command = re.search(r"(nas .*)\"", job["spec"]["entrypoint"])
    assert command is not None
    check_command(shlex.split(command[1]), "kuberay.yaml")


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
    monkeypatch.syspath_prepend(tmp_path)  # as Python has it that is started there
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
