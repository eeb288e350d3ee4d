"""Every command of `nas`, read as by a newcomer: what it prints, where, and how it ends."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

import dashboard.serve
import nas.demos
from nas.commands import display
from nas.storage import Repository
from supernets.occupied import occupied
from tests.nas.command import TINY, Nas, caller, variant

ROOT = Path(__file__).parents[2]


SETTINGS = ("NAS_STORAGE", "NAS_RUNS", "COLUMNS")  # of whoever runs the tests


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which `nas search tiny_run.py` was called once, and what it printed."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as streams:
        out = io.StringIO()
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["nas", "search", str(TINY)])
        streams.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as end:
            from nas.commands.app import main

            main()
    assert end.value.code in (0, None)
    return folder, out.getvalue()


@pytest.fixture
def here(done: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(done[0])
    return done[0]


@pytest.fixture
def copied(done: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(done[0], folder)
    monkeypatch.chdir(folder)
    return folder


def digests(text: str) -> list[str]:
    return re.findall(r"^([0-9a-f]{8}) ", text, re.MULTILINE)


# --- train and search


def test_a_search_tells_its_story(done: tuple[Path, str]) -> None:
    out = done[1]
    assert out.startswith("\ntiny: 104 architectures, 8,962 shared parameters (entangled)\n")
    assert re.search(r"^network +parameters +MACs +activations$", out, re.MULTILINE)
    assert re.search(
        r"^supernet: trained 40 steps of 'sandwich\(distil=none\)' in \d+ s, weights [0-9a-f]{16}$", out, re.MULTILINE
    )
    assert re.search(
        r"^error of its networks: smallest [\d.]+ %, random [\d.]+ %, largest [\d.]+ %$", out, re.MULTILINE
    )
    assert re.search(r"^front of tiny: \d+ of 30 evaluated architectures$", out, re.MULTILINE)
    assert re.search(r"^architecture +error +parameters +MACs +test error$", out, re.MULTILINE)
    plan = (
        r"^trust report: 3 networks alone, 3 of them twice, 5 steps each: about [\d.]+ % of the supernet's computation"
    )
    assert re.search(plan, out, re.MULTILINE)
    assert re.search(r"^trust report\n(The|Not determined: ).*3 networks trained alone", out, re.MULTILINE)
    assert re.search(r"^Kendall's tau +−?[\d.]+ \(−?[\d.]+ to −?[\d.]+\)$", out, re.MULTILINE)
    assert re.search(r"^parameters alone +tau −?[\d.]+; margin over it [+−][\d.]+ \(", out, re.MULTILINE)
    assert re.search(r"^trained alone +3 networks, 3 of them twice, 5 steps each; [\d.]+ % of the", out, re.MULTILINE)
    assert out.endswith(
        "\ntake a network home:  nas export tiny --to my_network\nlook around:          nas dashboard\n"
    )


def test_nothing_is_cut_off_in_a_pipe(done: tuple[Path, str]) -> None:
    assert "…" not in done[1] and not re.search(r" $", done[1], re.MULTILINE)
    assert len(digests(done[1])) > 2


def test_a_second_search_says_that_it_found_everything(here: Path, nas_: Nas, done: tuple[Path, str]) -> None:
    status, out, err = nas_("search", TINY)
    assert status == 0 and err == ""
    assert re.search(
        r"^supernet: found trained, 40 steps of 'sandwich\(distil=none\)', weights [0-9a-f]{16}$", out, re.MULTILINE
    )
    assert "trained 40 steps" not in out and "\ntrust report: " not in out
    assert out[out.index("front of tiny") :] == done[1][done[1].index("front of tiny") :]


def test_resuming_a_study_needs_only_its_name(here: Path, nas_: Nas, done: tuple[Path, str]) -> None:
    status, out, _ = nas_("resume", "tiny")
    assert status == 0
    assert out[out.index("front of tiny") :] == done[1][done[1].index("front of tiny") :]


def test_a_second_search_beside_one_that_runs_is_refused_at_once(
    nas_: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Repository("sqlite:///nas.db") as driver, driver.driving("tiny"):
        for command in (("search", TINY), ("demo", "--name", "tiny")):
            status, _, err = nas_(*command)
            assert status == 1 and err.count("\n") == 1
            assert err.startswith("error: study 'tiny' is driven by process ")
    assert not (tmp_path / "runs").exists(), "nothing was trained"
    with occupied(tmp_path / "runs" / "tiny" / "supernet"):
        status, _, err = nas_("train", TINY)
    message = "another process is training in runs/tiny/supernet: stop it or wait for it; or give this one a name"
    assert status == 1 and err.count("\n") == 1 and message in err


def test_training_names_the_next_command(tmp_path: Path, nas_: Nas) -> None:
    path = variant(tmp_path, "training=replace(tiny.run.training, steps=4)")
    storage, runs = f"sqlite:///{tmp_path / 'a b.db'}", tmp_path / "runs"
    status, out, _ = nas_("train", path, "--storage", storage, "--runs", runs)
    assert status == 0
    assert re.search(r"^supernet: trained 4 steps of 'sandwich\(distil=none\)' in \d+ s", out, re.MULTILINE)
    assert out.endswith(f"\nnext: nas search {path} --storage '{storage}' --runs {runs}\n")
    assert list((runs / "tiny" / "supernet").glob("step-*4.json"))


def test_a_training_that_goes_on_says_from_where(tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    from supernets.training import Loop

    monkeypatch.chdir(tmp_path)
    path = variant(tmp_path, "training=replace(tiny.run.training, steps=8, checkpoint_every=3)")
    step = Loop._step

    def dies(self: Any, number: int, passes: Any) -> None:
        if number == 4:
            raise OSError(28, "No space left on device", "weights.part")
        step(self, number, passes)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", dies)
        status, _, err = nas_("train", path)
    remedy = "see that the place exists, has room and may be written to"
    assert (status, err) == (1, f"error: weights.part: No space left on device; {remedy}\n")
    assert re.search(
        r"^supernet: went on from step 3 to 8 steps of 'sandwich\(distil=none\)'", nas_("train", path).out, re.MULTILINE
    )


def test_the_demo_does_the_whole_job_and_says_so_in_ten_lines(
    here: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas.demos, "run_file", lambda task: TINY)
    status, out, _ = nas_("demo")
    assert status == 0
    lines = [line for line in out.splitlines() if line]
    assert len(lines) <= 10
    heads = (
        "tiny: ",
        "supernet: ",
        "front: ",
        "",
        "",
        "trained alone for this: 3 networks",
        "exported the best under ",
    )
    for line, head in zip(lines, heads, strict=False):
        assert line.startswith(head)
    exported = re.fullmatch(
        rf"exported the best under params <= (\S+), (\w{{8}}), to {here / 'runs' / 'tiny' / 'best'}: "
        r"error (.+) \(on the front (.+)\), test error (.+) \(on the front (.+)\)",
        lines[6].replace("to runs", f"to {here / 'runs'}"),
    )
    assert exported is not None
    limit, digest, error, error_told, test_error, test_error_told = exported.groups()
    assert (error, test_error) == (error_told, test_error_told)
    found = json.loads(nas_("front", "tiny", "--json", "--where", f"params <= {limit}").out)
    assert found[0]["digest"].startswith(digest)
    assert out.endswith("nas dashboard\n")


@pytest.mark.slow  # its stages are those of the demo in ten lines
def test_a_verbose_demo_tells_all(here: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.demos, "run_file", lambda task: TINY)
    status, out, _ = nas_("--verbose", "demo")
    assert status == 0
    assert re.search(r"^the front dominates or equals \d+% of 100 uniformly sampled networks", out, re.MULTILINE)
    best = digests(out)[0]
    assert f"exported {best} to {here / 'runs' / 'tiny' / 'best'}" in out
    assert re.search(r"^  weights\.safetensors, outputs within 0\.0e\+00 of the network's$", out, re.MULTILINE)
    assert out.endswith("nas dashboard\n")


def test_a_seed_of_the_demo_is_that_of_all_its_parts(
    tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nas.demos, "run_file", lambda task: variant(tmp_path, "evaluations=6, trust=0"))
    assert nas_("demo", "--seed", "7", "--name", "seventh").status == 0
    with Repository("sqlite:///nas.db", read_only=True) as repository:
        study = repository.study("seventh")
        assert study.seed == 7 and study.supernet_digest is not None
        assert repository.supernet(study.supernet_digest).settings["seed"] == 7


@pytest.mark.parametrize("task", ["image", "text"])
def test_the_demos_are_there(task: str) -> None:
    path = nas.demos.run_file(task)
    assert path.is_file() and "run = Run(" in path.read_text()


@pytest.mark.parametrize("task", ["image", "text"])
def test_networks_of_the_demos_run_without_this_package(task: str, tmp_path: Path) -> None:
    from nas.run_file import load
    from nas.stages.evaluators import untrained
    from supernets.export import export, rebuilt

    run = load(nas.demos.run_file(task))
    arch, example = run.space.smallest(), run.task.example(2)
    network = untrained(run).extract(arch).eval()
    found = export(network, arch=arch, build=run.build, example=example, directory=tmp_path, formats=("safetensors",))
    assert torch.equal(rebuilt(found.directory).eval()(example), network(example))


# --- look


def test_studies_as_a_table_and_as_json(here: Path, nas_: Nas) -> None:
    status, out, _ = nas_("studies")
    assert status == 0
    heads, row = out.splitlines()
    assert re.split(r"  +", heads) == ["study", "status", "evaluated", "objectives", "limits", "created (UTC)"]
    assert re.split(r"  +", row)[:5] == ["tiny", "finished", "30", "error, params", "-"]
    (record,) = json.loads(nas_("studies", "--json").out)
    assert (record["name"], record["evaluations"], record["objectives"]) == ("tiny", 30, ["error", "params"])


def test_a_database_without_studies_says_how_to_make_one(tmp_path: Path, nas_: Nas) -> None:
    Repository(f"sqlite:///{tmp_path / 'nas.db'}").close()
    storage = f"sqlite:///{tmp_path / 'nas.db'}"
    assert (
        nas_("studies", "--storage", storage).out == "no studies yet: nas demo makes one, nas search my_run.py yours\n"
    )
    assert json.loads(nas_("studies", "--storage", storage, "--json").out) == []


def test_the_front_in_three_forms(here: Path, nas_: Nas) -> None:
    table = nas_("front", "tiny").out
    rows = json.loads(nas_("front", "tiny", "--json").out)
    lines = list(csv.DictReader(io.StringIO(nas_("front", "tiny", "--csv").out)))
    assert digests(table) == [row["digest"][:8] for row in rows] == [line["digest"][:8] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert row["metrics"]["error"] == float(line["error"])
        assert row["verified"]["test_error"] == float(line["test_error"])
        assert row["architecture"] == json.loads(line["architecture"])
        life = row["life"]
        assert 1 <= life["evaluation"] <= 30 and life["evaluation"] == int(line["evaluation"])
        assert life["proposed"] and line["proposed"] == life["proposed"]
        assert " ".join(life["parents"]) == line["parents"]
        assert datetime.fromisoformat(life["stored"]).tzinfo and line["stored"] == life["stored"]
        assert life["seconds"] == float(line["seconds"]) > 0
    errors = [row["metrics"]["error"] for row in rows]
    assert errors == sorted(errors)


def test_the_front_under_further_limits(here: Path, nas_: Nas) -> None:
    rows = json.loads(nas_("front", "tiny", "--where", "params <= 2000", "--where", "error < 0.5", "--json").out)
    assert rows and all(row["metrics"]["params"] <= 2000 for row in rows)
    out = nas_("front", "tiny", "--where", "params <= 2000").out
    assert f"front of tiny: {len(rows)} of 30 evaluated architectures under params <= 2000" in out
    assert "nothing keeps the limits: loosen one" in nas_("front", "tiny", "--where", "params <= 2").out
    assert json.loads(nas_("front", "tiny", "--where", "params <= 2", "--json").out) == []


def test_one_study_and_one_architecture(here: Path, nas_: Nas) -> None:
    out = nas_("show", "tiny").out
    assert re.search(r"^searcher +surrogate$", out, re.MULTILINE)
    assert re.search(r"^evaluations +30$", out, re.MULTILINE)
    assert re.search(r"^settings +batch 6, data [0-9a-f]{16}$", out, re.MULTILINE)
    best = json.loads(nas_("front", "tiny", "--json").out)[0]
    out = nas_("show", "tiny", best["digest"][:10]).out
    assert f"TinySpace {best['digest']}" in out
    assert json.loads(out[out.index("{") : out.rindex("}") + 1]) == best["architecture"]
    assert re.search(r"^error +[\d.]+ % +-$", out, re.MULTILINE)
    assert re.search(r"^test error +- +[\d.]+ %$", out, re.MULTILINE)
    life = best["life"]
    assert f"evaluation {life['evaluation']}\nproposed as: {life['proposed']}" in out
    assert f"\nstored {life['stored']}\ntook {life['seconds']:.3g} s on " in out


def test_two_architectures_compared(here: Path, nas_: Nas) -> None:
    rows = json.loads(nas_("front", "tiny", "--json").out)
    first, last = rows[0], rows[-1]
    out = nas_("compare", "tiny", first["digest"], last["digest"]).out
    assert out.splitlines()[0].split() == [first["digest"][:8], last["digest"][:8]]
    differing = {
        name for name in ("width", "depth", "norm") if first["architecture"][name] != last["architecture"][name]
    }
    assert differing and all(re.search(rf"^{name} ", out, re.MULTILINE) for name in differing)
    assert re.search(r"^parameters +[\d.]+k +[\d.]+k?$", out, re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 60])
def test_on_a_narrow_terminal_lines_wrap_and_nothing_is_cut(
    columns: int, here: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(display.terminal, "_out", Console(highlight=False, width=columns))
    with Repository("sqlite:///nas.db") as repository:
        digest = repository.evaluations("tiny")[0].arch.digest
    for command in (["studies"], ["show", "tiny"], ["show", "tiny", digest]):
        out = nas_(*command).out
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= columns


def test_a_front_with_predicted_and_measured_latency_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from nas.records import StudyRecord
    from nas.results.front import Row
    from search_spaces import Architecture

    objectives, bounds = ("error", "latency_ms@cpu", "params"), ("latency_ms@cpu <= 0.6",)
    record = StudyRecord("digits", "0" * 16, None, objectives, bounds, "evolution", 0)
    arch = Architecture.from_json('{"is":"S","width":8}')
    told = {"error": 0.0367, "latency_ms@cpu": 0.5123, "params": 48213.0, "macs": 1234567.0}
    seen = {"latency_ms@cpu": 0.6123, "test_error": 0.0425}
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = io.StringIO()
    monkeypatch.setattr(display.terminal, "_out", Console(file=wide, highlight=False, width=80))
    display.front(record, [Row(arch, told, seen, ("latency_ms@cpu <= 0.6",))], 300)
    assert "  latency on cpu predicted → measured  " in wide.getvalue(), "in a pipe nothing needs to wrap"

    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    monkeypatch.setattr(display.terminal, "_out", Console(file=out, highlight=False, width=80))
    display.front(record, [Row(arch, told, seen, ("latency_ms@cpu <= 0.6",))], 300)
    text = out.getvalue()
    assert "front of digits: 1 of 300 evaluated architectures under latency_ms@cpu <= 0.6" in text
    assert "0.5123 ms → 0.6123 ms !" in text
    assert "1 of them break a limit as measured, though predicted to keep it (marked !)" in text
    assert "…" not in text


def test_a_front_of_failures_says_how_they_failed(tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails = "def evaluate(*_):\n    raise ValueError('no such class')\n"
    path = variant(tmp_path, "training=replace(tiny.run.training, steps=2), evaluations=6, trust=0", fails)
    import tests.nas.tiny_run as tiny
    from nas.stages import evaluators

    def broken(self: object, arch: object) -> dict[str, float]:
        raise ValueError("no such class")

    assert tiny.run.evaluations == 30
    monkeypatch.setattr(evaluators.SubnetEvaluator, "__call__", broken)
    status, out, _ = nas_("search", path)
    assert status == 0
    assert "evaluations failed, for instance: ValueError: no such class" in out
    line = "study 'tiny' has no network to take: all 6 evaluations failed, the first with ValueError: no such class"
    assert nas_("export", "tiny", "--to", "x").err.startswith(f"error: {line}")


# --- take home


def test_export_writes_the_best_network(here: Path, nas_: Nas, tmp_path: Path) -> None:
    status, out, _ = nas_("export", "tiny", "--to", tmp_path / "net", "--formats", "safetensors,torch")
    assert status == 0
    best = json.loads(nas_("front", "tiny", "--json").out)[0]
    assert f"exported {best['digest'][:8]} to {tmp_path / 'net'}" in out
    record = json.loads((tmp_path / "net" / "architecture.json").read_text())
    assert {"weights.safetensors", "network.pt2", "load.py"} <= {path.name for path in (tmp_path / "net").iterdir()}
    assert best["metrics"].items() <= json.loads(json.dumps(record))["metadata"]["metrics"].items()
    counted = {**best["metrics"], **best["verified"]}
    for name in ("params", "macs"):
        assert sum(part[name] for part in record["metadata"]["parts"].values()) == counted[name]


def test_export_of_a_chosen_architecture_and_under_a_limit(here: Path, nas_: Nas, tmp_path: Path) -> None:
    last = json.loads(nas_("front", "tiny", "--json").out)[-1]["digest"]
    chosen = nas_("export", "tiny", "--architecture", last[:8], "--to", tmp_path / "a", "--formats", "safetensors")
    limited = nas_("export", "tiny", "--where", "params <= 615", "--to", tmp_path / "b", "--formats", "safetensors")
    assert f"exported {last[:8]} to" in chosen.out
    assert f"exported {last[:8]} to" in limited.out


def test_fine_tuning_shows_what_it_gained_and_exports(copied: Path, nas_: Nas) -> None:
    arguments = ("finetune", "tiny", "--to", "tuned", "--steps", "5", "--lr", "1e-3", "--formats", "safetensors")
    status, out, _ = nas_(*arguments)
    assert status == 0
    assert re.search(r"^error: [\d.]+ % → [\d.]+ %$", out, re.MULTILINE)
    assert re.search(r"^test error: [\d.]+ % → [\d.]+ %$", out, re.MULTILINE)
    assert (copied / "tuned" / "weights.safetensors").is_file()
    assert nas_(*arguments).out == out, "the same command finds the training finished"
    assert nas_("finetune", "tiny", "--to", "tuned").status == 0


def test_upgrade_says_what_it_did(tmp_path: Path, nas_: Nas) -> None:
    storage = f"sqlite:///{tmp_path / 'new.db'}"
    assert re.fullmatch(
        rf"{storage} is at version \d+: created\n", nas_("storage", "upgrade", "--storage", storage).out
    )
    assert nas_("storage", "upgrade", "--storage", storage).out.endswith(": no upgrade needed\n")


def test_the_dashboard_is_served(here: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[Any, ...]] = []

    def serve(url: str, host: str, port: int, *, allow_remote: bool) -> int:
        served.append((url, host, port, allow_remote))
        return 0

    monkeypatch.setattr(dashboard.serve, "serve", serve)
    status, out, _ = nas_("dashboard", "--port", "8765")
    assert (status, served) == (0, [("sqlite:///nas.db", "127.0.0.1", 8765, False)])
    assert out == "dashboard of sqlite:///nas.db: http://127.0.0.1:8765 (stop with Ctrl-C)\n"


# --- for all of them


def test_places_come_from_the_environment(
    here: Path, nas_: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORAGE", f"sqlite:///{here / 'nas.db'}")
    monkeypatch.setenv("NAS_RUNS", str(here / "runs"))
    monkeypatch.chdir(tmp_path)
    assert nas_("studies").out.splitlines()[1].startswith("tiny")
    assert nas_("export", "tiny", "--to", "net", "--formats", "safetensors").status == 0


def test_quiet_leaves_results(here: Path, nas_: Nas) -> None:
    status, out, err = nas_("--quiet", "search", TINY)
    assert (status, err) == (0, "")
    assert out.startswith("architecture ")
    assert "shared parameters" not in out and "take a network home" not in out
    assert nas_("--quiet", "front", "nix").err.startswith("error: ")


def test_an_error_is_one_line_and_verbose_gives_the_trace(here: Path, nas_: Nas) -> None:
    status, out, err = nas_("front", "nix")
    assert (status, out) == (1, "")
    assert err == "error: there is no study 'nix' in sqlite:///nas.db; there is: 'tiny'\n"
    from nas.errors import NasError

    with pytest.raises(NasError, match="there is no study 'nix'"):
        nas_("--verbose", "front", "nix")


def test_ctrl_c_leaves_with_one_line(tmp_path: Path, nas_: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.stages import evaluators

    monkeypatch.chdir(tmp_path)
    calls = 0
    evaluate = evaluators.SubnetEvaluator.__call__

    def interrupted(self: evaluators.SubnetEvaluator, arch: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return evaluate(self, arch)

    path = variant(tmp_path, "training=replace(tiny.run.training, steps=2), trust=0")
    with monkeypatch.context() as patch:
        patch.setattr(evaluators.SubnetEvaluator, "__call__", interrupted)
        status, out, err = nas_("search", path)
    assert (status, err) == (130, "stopped: the same command goes on from here\n")
    assert "front of" not in out
    (study,) = json.loads(nas_("studies", "--json").out)
    assert (study["status"], study["evaluations"]) == ("interrupted", 8)
    assert nas_("search", path).status == 0
    (study,) = json.loads(nas_("studies", "--json").out)
    assert (study["status"], study["evaluations"]) == ("finished", 30)


def test_shrinking_tells_the_evidence_and_searches_what_is_left(nas_: Nas, copied: Path) -> None:
    told = nas_("shrink", "tiny", "--least", 4, "--tolerance", 0.3, "--json")
    assert told.status == 0, told.err
    proposed = json.loads(told.out)
    closed = [(one["path"], one["option"]) for one in proposed["options"] if one["closed"]]
    assert closed and proposed["networks"] < 104
    status, out, err = nas_("shrink", "tiny", "--least", 4, "--tolerance", 0.3, "--to", "narrow")
    assert status == 0, err
    assert f"{len(closed)} of 15 options of study tiny can be closed: 104 networks" in out
    with Repository("sqlite:///nas.db", read_only=True) as repository:
        tiny, narrow = repository.study("tiny"), repository.study("narrow")
        assert narrow.supernet_digest == tiny.supernet_digest
        assert [(one["path"], one["option"]) for one in narrow.settings["closed"]] == closed
        assert all("networks with it are on the front" in one["why"] for one in narrow.settings["closed"])
        spaces = {space.digest: space.declaration for space in repository.spaces()}
        assert not spaces[tiny.space_digest]["narrowing"]
        assert spaces[narrow.space_digest]["narrowing"].keys() == {path for path, _ in closed}
        found = repository.evaluations("narrow")
        assert found and all((path, option) not in one.arch.leaves() for one in found for path, option in closed)
    resumed = nas_("resume", "narrow")
    assert resumed.status == 0, resumed.err
    path, option = closed[0]
    assert re.search(rf"^closed +{path} = {option}: \d+ of \d+ networks", nas_("show", "narrow").out, re.MULTILINE)
    taken = nas_("shrink", "tiny", "--to", "narrow")
    remedy = "go on with nas resume narrow, or give another name"
    assert (taken.status, taken.err) == (1, f"error: there is a study 'narrow' already: {remedy}\n")
    nothing = nas_("shrink", "tiny", "--least", 1000, "--to", "narrower")
    assert nothing.status == 1 and "nothing of study 'tiny' can be closed" in nothing.err


def test_help_names_every_command(nas_: Nas) -> None:
    from nas.commands.app import app

    status, out, _ = nas_("--help")
    assert status == 0
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(names) == 19
    assert all(re.search(rf"^  {name} +[A-Z]", out, re.MULTILINE) for name in names), out
    assert nas_() == (2, "", out), "nas alone explains itself"
    for group in ("target", "storage", "cluster"):
        assert "..." not in nas_(group, "--help").out.partition("Commands:")[2]
    assert "..." not in out.partition("Commands:")[2], "the first sentence of a help text has at most 45 characters"
    for name in names:
        helped = nas_(name, "--help")
        assert helped.status == 0 and "Usage: " in helped.out


def test_a_wrong_option_is_a_usage_error(nas_: Nas) -> None:
    status, _, err = nas_("front", "tiny", "--nonsense")
    assert status == 2 and "--nonsense" in err
    status, _, err = nas_("search", "x.py", "--workers", "0")
    assert status == 2 and "--workers" in err


def test_help_waits_for_nothing_heavy() -> None:
    """In a process of its own: neither torch nor another large package is loaded."""
    code = (
        "import sys\nfrom nas.commands.app import main\nsys.argv = ['nas', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'optuna', 'sklearn', 'scipy', 'pandas', 'ray', 'streamlit'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.slow
def test_modules_that_are_loaded_late_stand_torch() -> None:
    """Which looks into every module there is when it is imported, and so loads them in the middle of it."""
    done = subprocess.run(
        [sys.executable, "-c", "import nas.commands.app, nas.run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_python_m_nas_is_the_command(here: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nas", "front", "tiny", "--json"]
    whole = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert whole.returncode == 0 and json.loads(whole.stdout)
    assert whole.stderr == ""
    piped = subprocess.run(
        f"{shlex.join(command)} | true", shell=True, env=environment, capture_output=True, timeout=120
    )
    assert piped.stderr == b"", "a reader that has had enough is no error"


# --- progress where there is no terminal


def test_a_line_every_half_minute_where_no_bar_can_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 20.0, 41.0, 50.0, 75.0, 80.0])
    monkeypatch.setattr(display.terminal.time, "monotonic", lambda: next(clock))
    tick = display.terminal.log_lines("searching")
    for done, total in ((10, 300), (20, 300), (90, 300), (100, 300), (200, 300), (300, 300)):
        tick(done, total)
    assert capsys.readouterr().err == (
        "searching: 90 of 300, 2/s, 105 s left\nsearching: 200 of 300, 2.6/s, 39 s left\n"
    )


def test_a_quiet_bar_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display.set_quiet(True)
    try:
        with display.bar("searching") as tick:
            tick(1, 2)
    finally:
        display.set_quiet(False)
    assert capsys.readouterr() == ("", "")
