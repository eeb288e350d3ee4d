"""Run files: what a run checks of itself, how a file is executed, and whom an exception is blamed on."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.run import Run, RunError
from nas.run_file import blaming, load
from search_spaces import SpaceError
from supernets.errors import SupernetError
from supernets.tasks import Regression
from tests.nas.command import TINY, variant


def written(folder: Path, text: str) -> Path:
    path = folder / "my_run.py"
    path.write_text(text)
    return path


def test_a_run_file_gives_its_run() -> None:
    run = load(TINY)
    assert isinstance(run, Run)
    assert (run.name, run.searcher, run.objectives) == ("tiny", "surrogate", ("error", "params"))
    assert run.space.count() == 104


def test_a_run_knows_the_targets_it_speaks_of() -> None:
    run = load(TINY)
    assert run.target_names == ()
    assert replace(run, objectives=("error", "latency_ms@cpu")).target_names == ("cpu",)
    assert replace(run, limits=("latency_ms@cpu <= 2", "params < 1e5")).target_names == ("cpu",)


@pytest.mark.parametrize("name", ["sandwich", "sandwich(distil=alpha)", "deps", "progressive", "attentive"])
def test_numbers_are_not_distilled_as_logits(name: str) -> None:
    run, pair = load(TINY), (np.zeros((4, 64), np.float32), np.zeros((4, 10), np.float32))
    settings = {"task": Regression(pair, pair), "objectives": ("rmse", "params"), "limits": ()}
    line = rf"^strategy {name.partition('(')[0]} distils distributions over classes.* 'regression' are plain numbers: "
    with pytest.raises(SupernetError, match=line):
        replace(run, training=replace(run.training, strategy=name), **settings)
    replace(run, training=replace(run.training, strategy="sandwich(distil=none)"), **settings)


def test_a_run_file_may_import_its_neighbours_and_leaves_no_trace(tmp_path: Path) -> None:
    variant(tmp_path, "name='neighbour'", name="a_neighbour_of_runs.py")
    path = written(tmp_path, "from a_neighbour_of_runs import run")
    before = list(sys.path)
    assert load(path).name == "neighbour"
    assert sys.path == before
    del sys.modules["a_neighbour_of_runs"]


def test_functions_of_a_run_file_are_found_by_name() -> None:
    build = load(TINY).build
    assert getattr(sys.modules[build.__module__], build.__qualname__) is build


def test_a_run_file_that_fails_is_not_left_half_imported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^my_run\.py, line 2 raised ZeroDivisionError: division by zero$"):
        load(written(tmp_path, "a = 0\nb = 1 / a"))
    assert "nas_run_my_run" not in sys.modules


def test_a_run_file_may_be_corrected_and_loaded_again(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="line 1"):
        load(written(tmp_path, "import no_such_package"))
    path = variant(tmp_path, "seed=4", name="my_run.py")
    assert load(path).seed == 4


def test_errors_of_ours_keep_their_text_and_get_a_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^my_run\.py, line 2: steps = -1: it must be 0 or more$"):
        load(written(tmp_path, "from supernets.training import TrainingConfig\nTrainingConfig(steps=-1)"))


def test_an_interruption_of_a_run_file_is_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(written(tmp_path, "raise KeyboardInterrupt"))


def test_what_a_run_files_code_raises_later_is_blamed_on_its_line(tmp_path: Path) -> None:
    path = variant(tmp_path, "seed=1", before="def build(arch):\n    return [][0]")
    load(path)
    told = r"^variant_run\.py, line 7 raised IndexError: list index out of range \(nas --verbose shows the trace\)$"
    with pytest.raises(RunError, match=told), blaming(path):
        sys.modules["nas_run_variant_run"].build(None)


@pytest.mark.parametrize(
    "error", [RunError("ours"), SpaceError("ours"), SupernetError("ours"), ValueError("elsewhere")]
)
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, blaming(tmp_path / "my_run.py"):
        raise error
    assert raised.value is error
