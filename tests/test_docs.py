"""What the README says: its code runs, and every command is in it."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readmes_run_file_finds_networks(tmp_path: Path) -> None:
    from nas.run_file import load
    from nas.stages.predicting import latencies
    from nas.stages.studying import open_study
    from nas.stages.workflow import Workflow
    from nas.storage import Repository

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    file = tmp_path / "my_run.py"
    file.write_text(code.group(1), encoding="utf-8")
    run = load(file)
    quick = replace(run, training=replace(run.training, steps=40), evaluations=10, batch=5, measured=6, limits=())
    workflow = Workflow(quick, Repository(f"sqlite:///{tmp_path}/nas.db"), tmp_path / "runs", file, progress=False)
    study = open_study(workflow, latencies(workflow))
    front = study.run(quick.evaluations)
    assert len(study.evaluations) == 10
    assert front and all("latency_ms@cpu" in evaluation.metrics for evaluation in front)


def test_the_readmes_flags_are_for_its_run_file(tmp_path: Path) -> None:
    from nas.run_file import load
    from nas.run_variants import changed
    from nas.stages.evaluators import untrained

    code, command = re.search(r"```python\n(.*?)```", README, re.DOTALL), re.search(r"nas search .*--sharing.*", README)
    assert code is not None and command is not None
    file = tmp_path / "my_run.py"
    file.write_text(code.group(1), encoding="utf-8")
    words = shlex.split(command.group())
    flags = dict(zip([word.removeprefix("--") for word in words[3::2]], words[4::2], strict=True))
    run = changed(load(file), **flags)
    assert (run.training.strategy, run.sharing, run.name) == (flags["strategy"], flags["sharing"], flags["name"])
    assert untrained(run).num_parameters > untrained(load(file)).num_parameters


def test_every_command_is_in_the_readme() -> None:
    from nas.commands.app import app

    commands = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    for group in app.registered_groups:
        within = group.typer_instance.registered_commands if group.typer_instance else []
        commands += [f"{group.name} {c.name or c.callback.__name__}" for c in within if c.callback]
    for command in commands:
        assert f"nas {command}" in README, f"README.md does not name `nas {command}`"


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(target: str) -> None:
    assert (Path(__file__).parents[1] / target).exists()
