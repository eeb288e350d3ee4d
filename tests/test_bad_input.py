"""What users get wrong, and the one line they read then: it names the value, the rule and the remedy.

One table, a row a mistake: what is done, the class of the error, and its message from end to end, in which FOLDER is
where the test works and ... anything.
"""

import re
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from dashboard import serve
from nas import data, demos
from nas.data import DataError
from nas.errors import NasError
from nas.execution.cluster import RayExecutor
from nas.execution.placement import Placement
from nas.migrations import tables
from nas.objectives import limits
from nas.records import Evaluation, SpaceRecord, StudyRecord, SupernetRecord
from nas.results import front
from nas.run import Run, RunError
from nas.run_file import load
from nas.run_variants import as_trained
from nas.searchers import DistributionSearch, EvolutionarySearch
from nas.searchers.gradient.front import FrontConfig
from nas.stages.studying import open_study
from nas.stages.workflow import Workflow
from nas.storage import Repository
from nas.study import Study
from nas.targets import CPUTarget, TargetError
from search_spaces import Architecture, Space, SpaceError, choice, constraint
from supernets import Blocks, BuildError, MemoryLimitError, ShapeError, Supernet, SupernetError
from supernets.checkpoints import CheckpointError
from supernets.distillation import DistillationError, Distilled, Hidden, every
from supernets.errors import ExportError
from supernets.export import export
from supernets.sharing import LowRank
from supernets.spelling import SpellingError
from supernets.tasks import Classification, LanguageModelling, TaskError
from supernets.training import TrainingConfig, TrainingError, train, train_network
from tests.nas.command import TINY
from tests.nas.learnt import learnt


class Small(Space):
    width = choice(4, 8)
    depth = choice(0, 1)


def build(arch: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(64, arch.width), nn.Linear(arch.width, 10))


@cache
def tiny() -> Run:
    return load(TINY)


# --- spaces


def declared(**body: Any) -> Callable[[Path], object]:
    return lambda folder: type("Net", (Space,), body)()


def constrained(folder: Path) -> object:
    @constraint
    def narrow(height: int) -> bool:
        return height < 3

    return type("Net", (Space,), {"width": choice(1, 2), "narrow": narrow})()


# --- models


def supernet(make: Callable[[Any], Any], **settings: Any) -> Callable[[Path], object]:
    return lambda folder: Supernet(Small(), make, **settings)


def fails(arch: Any) -> nn.Module:
    raise ZeroDivisionError("no heads\nleft")


def changes_rank(arch: Any) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(torch.zeros((arch.width,) * (1 + arch.depth)))
    return module


# --- run files


def file(text: str, name: str = "my_run.py") -> Callable[[Path], object]:
    def loaded(folder: Path) -> object:
        (folder / name).write_text(text)
        return load(folder / name)

    return loaded


def run(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: replace(tiny(), **changes)


# --- checkpoints


def trained(folder: Path, **changes: Any) -> object:
    config = TrainingConfig(**{"steps": 2, "evaluate_every": 0, "checkpoint_every": 1, "precision": "fp32", **changes})
    return train(Supernet(Small(), build), tiny().task, config, directory=folder / "supernet", progress=False)


def of_other_settings(folder: Path) -> object:
    trained(folder)
    return trained(folder, lr=0.1)


def of_another_space(folder: Path) -> object:
    trained(folder)
    other = Supernet(Small(width=4), build)
    return train(other, tiny().task, TrainingConfig(steps=2), directory=folder / "supernet", progress=False)


def damaged(change: Callable[[Path], None], pattern: str) -> Callable[[Path], object]:
    """Changes both checkpoints; what the workers of a cluster do then."""

    def opened(folder: Path) -> object:
        from nas.stages.evaluators import trained as found

        small = replace(tiny(), space=Small(), build=build, training=TrainingConfig(steps=2))
        trained(folder)
        for path in (folder / "supernet").glob(pattern):
            change(path)
        return found(small, folder / "supernet")

    return opened


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def no_weights_to_export(folder: Path) -> object:
    with Workflow(tiny(), studied(folder), folder / "runs", TINY, progress=False) as workflow:
        return workflow.require_trained("done")


def of_other_settings_under_the_same_name(folder: Path) -> object:
    for sharing in ("entangled", "routed"):
        made = replace(tiny(), sharing=sharing, training=TrainingConfig(steps=2, evaluate_every=0))
        with Workflow(made, Repository("sqlite://"), folder / "tiny", TINY, progress=False) as workflow:
            assert workflow.result.steps == 2
    return None


def of_a_study_elsewhere(folder: Path) -> object:
    study = StudyRecord("done", "0" * 16, "1" * 16, ("error",), (), "random", 0)
    return as_trained(tiny(), study, SupernetRecord("1" * 16, "0" * 16, "tiny", "entangled", "", "", 2))


class Bare:
    """A task that only trains and evaluates."""

    name = digest = metric = "error"

    def example(self) -> None: ...

    batch = outputs = loss = evaluate = calibration = example


def began_otherwise(folder: Path) -> object:
    """A study that random search began, gone on with by gradients."""
    quick = replace(tiny(), training=replace(tiny().training, steps=2, evaluate_every=0), searcher="random")
    for changed in (quick, replace(quick, searcher="gradient")):
        repository = Repository(f"sqlite:///{folder / 'nas.db'}")
        with Workflow(changed, repository, folder / "tiny", progress=False) as workflow:
            open_study(workflow, {})
    return None


# --- databases


def studied(folder: Path) -> Repository:
    """A database that has a study of three architectures."""
    repository = Repository(f"sqlite:///{folder / 'nas.db'}")
    space = tiny().space
    repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
    repository.create_study(StudyRecord("done", space.digest, None, ("error", "params"), (), "random", 0))
    archs = space.sample_many(3, np.random.default_rng(0), distinct=True)
    found = [Evaluation(arch, {"error": 0.1, "params": float(i)}) for i, arch in enumerate(archs)]
    repository.append_evaluations("done", found, "", "")
    return repository


def opened(url: str, **settings: Any) -> Callable[[Path], object]:
    return lambda folder: Repository(url.format(folder=folder), **settings)


def not_a_database(folder: Path) -> object:
    (folder / "notes.txt").write_text("nothing of the kind " * 100)
    return Repository(f"sqlite:///{folder / 'notes.txt'}")


def of_another_program(folder: Path) -> object:
    with sqlite3.connect(folder / "other.db") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    return Repository(f"sqlite:///{folder / 'other.db'}")


def of_version(version: str) -> Callable[[Path], object]:
    def opened(folder: Path) -> object:
        Repository(f"sqlite:///{folder / 'nas.db'}").close()
        with sqlite3.connect(folder / "nas.db") as connection:
            connection.execute(f"UPDATE {tables.version.name} SET version_num = '{version}'")
        connection.close()
        return Repository(f"sqlite:///{folder / 'nas.db'}")

    return opened


def without_psycopg(folder: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "psycopg", None)
        return Repository("postgresql+psycopg://nas@127.0.0.1/nas")


def another_search(folder: Path) -> object:
    repository = studied(folder)
    return Study("done", tiny().space, lambda arch: {}, ("error",), repository, seed=7)


def reading(question: Callable[[Repository], object]) -> Callable[[Path], object]:
    def asked(folder: Path) -> object:
        with studied(folder) as repository:
            return question(repository)

    return asked


# --- exports


def exporting(make: Callable[[Any], nn.Module] = build, **changes: Any) -> Callable[[Path], object]:
    def exported(folder: Path) -> object:
        arch = Small().smallest()
        settings = {"formats": ("safetensors",), "directory": folder / "network", "example": torch.zeros(2, 64)}
        return export(make(arch), arch=arch, build=make, **{**settings, **changes})

    return exported


def in_a_directory_in_use(folder: Path) -> object:
    (folder / "network").mkdir()
    (folder / "network" / "thesis.tex").write_text("years of work")
    return exporting()(folder)


def of_a_subnet(folder: Path) -> object:
    shared = Supernet(Small(), build)
    arch = Small().smallest()
    return export(
        shared.subnet(arch),
        arch=arch,
        build=build,
        example=torch.zeros(2, 64),
        directory=folder / "n",
        formats=("torch",),
    )


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.view(2, 64))


def fixed_batch(arch: Any) -> nn.Module:
    return FixedBatch()


# --- data


def labelled(n: int = 8, top: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((n, 64), np.float32), np.arange(n) % top


class Mistake(NamedTuple):
    done: Callable[[Path], object]
    error: type[Exception]
    line: str


MISTAKES: dict[str, Mistake] = {
    "space: no options": Mistake(
        declared(width=choice()), SpaceError, "Net.width: no options; give at least one, as in choice(16, 32)"
    ),
    "space: an option twice": Mistake(
        declared(width=choice(8, 8)), SpaceError, "Net.width: option 8 is given twice; options are distinct"
    ),
    "space: a plain list": Mistake(
        declared(width=[8, 16]), SpaceError, "Net.width: a plain list declares nothing; say choice(...) of its items"
    ),
    "space: per names nothing": Mistake(
        declared(width=choice(8, 16, per="dept"), depth=choice(1, 2)),
        SpaceError,
        "Net.width: per='dept' names no choice here; did you mean 'depth'?",
    ),
    "space: a constraint on nothing": Mistake(
        constrained, SpaceError, "Net.narrow: the constraint names 'height', which is no choice here; there are: width"
    ),
    "space: narrowed to what is not there": Mistake(
        lambda folder: Small(width=5), SpaceError, "Small.width: 5 is not among the options 4, 8"
    ),
    "architecture: a value that is no option": Mistake(
        lambda folder: Small().architecture({"width": 5, "depth": 0}),
        SpaceError,
        "Small.width: got 5; the options are 4, 8",
    ),
    "architecture: a field too few": Mistake(
        lambda folder: Small().architecture({"width": 4}), SpaceError, "Small.depth: got nothing; the options are 0, 1"
    ),
    "architecture: no JSON": Mistake(
        lambda folder: Architecture.from_json("{width: 8}"),
        SpaceError,
        "'{width: 8}' is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)); give the text that Architecture.json() wrote",
    ),
    "model: build is no function": Mistake(
        run(build="build"),
        RunError,
        "build = 'build' cannot be called: give the function from an architecture to a module",
    ),
    "model: build fails": Mistake(
        supernet(fails),
        BuildError,
        'build({"depth":1,"is":"Small","width":8}) raised ZeroDivisionError: no heads left; build must '
        "accept every architecture of the space",
    ),
    "model: build gives no module": Mistake(
        supernet(lambda arch: arch.width),
        BuildError,
        'build({"depth":1,"is":"Small","width":8}) returned int; it must return a torch.nn.Module, did '
        "it forget `return`?",
    ),
    "model: one name, two ranks": Mistake(
        supernet(changes_rank),
        ShapeError,
        'weight has shape (8, 8) for {"depth":1,"is":"Small","width":8} but (8,) for '
        '{"depth":0,"is":"Small","width":8}: tensors of different rank cannot share weights; give the '
        "two alternatives different names (structure.one_of does)",
    ),
    "model: too large": Mistake(
        supernet(build, memory_limit=1000),
        MemoryLimitError,
        "the supernet needs 0.00 GiB (weights 0.00 GiB, the rest gradients and Adam's state) but 0.00 "
        "GiB are available; its largest tensor is 0.weight (8, 64): narrow the space with where(), or "
        "raise memory_limit",
    ),
    "model: unknown pretrained values": Mistake(
        supernet(build, init={"nothing": torch.zeros(1)}),
        ShapeError,
        "init names 'nothing', and nothing in the state dict is a name of the supernet (1 names), whose tensors are "
        "called like '0.weight': rename them, or give the module that has these weights",
    ),
    "model: pretrained values of another size": Mistake(
        supernet(build, init={"0.weight": torch.zeros(4, 64)}),
        ShapeError,
        "0.weight is (4, 64) in the given weights and (8, 64) in the supernet; the largest architecture is larger than "
        "the parent: leave out options of width with which axis 0 is longer than 4",
    ),
    "distillation: no such layer": Mistake(
        lambda folder: Distilled(tiny().task, build(Small().largest()), [Hidden(every("blocks.*"))]),
        DistillationError,
        "the parent has no layer 'blocks.*': its modules are 0, 1",
    ),
    "distillation: a parent of other classes": Mistake(
        lambda folder: train_network(
            build(Small().largest()), Distilled(tiny().task, nn.Linear(64, 7)), TrainingConfig(steps=1), progress=False
        ),
        DistillationError,
        "the network's outputs are (16, 10) and its parent's (16, 7): they must be alike to be compared; let the "
        "parent have the same classes, or distil hidden states or relations",
    ),
    "sharing: low rank of nothing": Mistake(
        supernet(build, sharing=LowRank(adapted=("fc*",))),
        SupernetError,
        "lowrank: adapted pattern 'fc*' names no matrix; there is 0.weight, 1.weight",
    ),
    "layout: names nothing": Mistake(
        supernet(build, layout={"*.qkv.*": Blocks(3)}),
        SupernetError,
        "layout pattern '*.qkv.*' matches no parameter; the model has 0.weight, 0.bias, 1.weight, 1.bias",
    ),
    "layout: no blocks": Mistake(
        lambda folder: Blocks(0),
        SupernetError,
        "Blocks(count=0): a fused axis has at least one block; give a count of 1 or more",
    ),
    "layout: blocks that do not divide": Mistake(
        supernet(build, layout={"0.weight": Blocks(3)}),
        ShapeError,
        "0.weight has 8 rows along axis 0, which do not divide into 3 fused blocks; correct the layout or the space",
    ),
    "run file: missing": Mistake(
        lambda folder: load(folder / "my_run.py"),
        RunError,
        "FOLDER/my_run.py does not exist: give the .py file that has `run = Run(...)` in it",
    ),
    "run file: not Python": Mistake(
        file("run: tiny", "my_run.yaml"),
        RunError,
        "FOLDER/my_run.yaml is not a Python file: give the .py file that has `run = Run(...)` in it",
    ),
    "run file: a folder": Mistake(
        lambda folder: load(folder),
        RunError,
        "FOLDER is not a Python file: give the .py file that has `run = Run(...)` in it",
    ),
    "run file: syntax error": Mistake(
        file("from nas.run import Run\nrun = Run("),
        RunError,
        "my_run.py, line 2 raised SyntaxError: '(' was never closed",
    ),
    "run file: fails": Mistake(
        file("\nimport no_such_package\n"),
        RunError,
        "my_run.py, line 2 raised ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "run file: exits": Mistake(file("raise SystemExit(3)"), RunError, "my_run.py, line 1 raised SystemExit: 3"),
    "run file: no run": Mistake(
        file("space = 1"),
        RunError,
        "my_run.py has no variable `run`: end it with run = Run(name=..., space=..., build=..., task=...)",
    ),
    "run file: run is something else": Mistake(
        file("run = 1"),
        RunError,
        "my_run.py has a `run` of type int: end it with run = Run(name=..., space=..., build=..., task=...)",
    ),
    "run file: a field is missing": Mistake(
        file("from nas.run import Run\nrun = Run(name='a')"),
        RunError,
        "my_run.py, line 2 raised TypeError: Run.__init__() missing 3 required positional arguments: "
        "'space', 'build', and 'task'",
    ),
    "run: bad name": Mistake(
        run(name="my run/1"),
        RunError,
        "name = 'my run/1': use letters, digits, '-', '_' and '.', beginning with a letter or digit",
    ),
    "run: name is no text": Mistake(run(name=3), RunError, "name = 3 is no text: give one such as 'digits'"),
    "run: space is a class": Mistake(
        run(space=Small), RunError, "space = <class '...Small'> is not a Space: write Small()"
    ),
    "run: space is something else": Mistake(
        run(space={"width": [8, 16]}),
        RunError,
        "space = {'width': [8, 16]} is not a Space: declare one with search_spaces.Space",
    ),
    "run: task is none": Mistake(
        run(task=[1, 2]),
        RunError,
        "task = [1, 2] is no task, it has no name, digest, metric, example, batch, outputs, loss, "
        "evaluate, calibration: give a supernets.tasks.Classification, Regression or LanguageModelling, or write "
        "one like them",
    ),
    "run: unknown searcher": Mistake(
        run(searcher="grid"),
        NasError,
        "searcher 'grid' is unknown: choose one of random, evolution(selection=nsga2, ...",
    ),
    "run: gradient method that is none": Mistake(
        run(gradient="drns"),
        SpellingError,
        "no gradient method is called 'drns': choose one of darts(order, ...",
    ),
    "run: gradient method with an odd setting": Mistake(
        run(gradient="drnas(concentration=0)"),
        NasError,
        "drnas: concentration = 0.0: it must be ...",
    ),
    "run: gradient method is no text": Mistake(
        run(gradient=("drnas",)),
        RunError,
        "gradient = ('drnas',) is no text: give one such as 'drnas', or '' for none",
    ),
    "run: gradients for random search": Mistake(
        run(gradient="drnas", searcher="random"),
        RunError,
        "gradient = 'drnas' and searcher = 'random': the searchers that begin with what it learns are evolution, "
        "bayesian, surrogate, gradient",
    ),
    "run: looking ahead with weights that stay": Mistake(
        run(gradient="darts(order=2)"),
        RunError,
        "gradient = 'darts(order=2)' looks ahead by a step of weights that stay: write order=1, or "
        "gradient_search=GradientConfig(train_weights=True)",
    ),
    "run: gradient settings are a number": Mistake(
        run(gradient_search=2000),
        RunError,
        "gradient_search = 2000 has no settings: write GradientConfig(steps=...), or "
        "FrontConfig(GradientConfig(steps=...)) for a front",
    ),
    "run: a front of one objective": Mistake(
        run(searcher="gradient", gradient_search=FrontConfig(), objectives=("error",)),
        RunError,
        "gradient_search is a FrontConfig, and objectives = ('error',) make none: name a cost too, 'params' say, or "
        "write GradientConfig(...)",
    ),
    "run: gradient search of a task without samples": Mistake(
        run(gradient="drnas", task=Bare()),
        RunError,
        "gradient = 'drnas': the task has no num_train, batch_size, select, losses to draw by: see "
        "supernets.tasks.SamplingTask",
    ),
    "search: distributions of another space": Mistake(
        lambda folder: DistributionSearch(Small(), ("error",), distributions=[learnt(tiny().space)]),
        NasError,
        "the distribution of drnas has 4 options for width, but the space Small has 2: give one learned in this space",
    ),
    "search: no distributions": Mistake(
        lambda folder: DistributionSearch(Small(), ("error",), distributions=[]),
        NasError,
        "distributions is empty; give one or more distributions that a gradient search has learned",
    ),
    "search: a study that began otherwise": Mistake(
        began_otherwise,
        NasError,
        "study 'tiny' is there and began otherwise than with what '...' learns now: give this one a name of its own "
        "(--name NAME), or the settings that one was begun with",
    ),
    "run: no objective": Mistake(
        run(objectives=()), RunError, "objectives = (): name at least one metric to minimise, such as 'error'"
    ),
    "run: objectives as one text": Mistake(
        run(objectives="error"), RunError, "objectives = 'error': give a tuple of texts, such as ('error', 'params')"
    ),
    "run: an objective twice": Mistake(
        run(objectives=("error", "error")), RunError, "objectives = ('error', 'error'): name each metric once"
    ),
    "run: unknown objective": Mistake(
        run(objectives=("accuracy",)),
        RunError,
        "'accuracy' is no metric of this run: choose of error, loss, params, macs, activation_bytes, "
        "minus_synflow, minus_naswot, minus_grad_norm, latency_ms@TARGET",
    ),
    "run: a target of no name": Mistake(
        run(objectives=("error", "latency_ms@-5")),
        RunError,
        "'latency_ms@-5': '-5' is not allowed as the name of a target: use letters, digits, '-', '_' and '.', "
        "starting with a letter or "
        "digit",
    ),
    "run: unknown target": Mistake(
        lambda folder: Workflow(replace(tiny(), objectives=("latency_ms@pi5",)), Repository("sqlite://"), folder),
        TargetError,
        "no target is called 'pi5' in sqlite://: there is cpu, onnx; nas target add pi5 KIND adds it",
    ),
    "run: latency of no target": Mistake(
        run(limits=("latency_ms <= 2",)),
        RunError,
        "'latency_ms' is no metric of this run: choose of error, loss, params, macs, activation_bytes, "
        "minus_synflow, minus_naswot, minus_grad_norm, latency_ms@TARGET",
    ),
    "run: limits as one text": Mistake(
        run(limits="params <= 2"), RunError, "limits = 'params <= 2': give a tuple of texts, such as ('params <= 1e5',)"
    ),
    "run: no evaluations": Mistake(
        run(evaluations=0), RunError, "evaluations = 0: it must be a whole number, 1 or more"
    ),
    "run: half an evaluation": Mistake(run(batch=2.5), RunError, "batch = 2.5: it must be a whole number, 1 or more"),
    "run: a negative share for trust": Mistake(
        run(trust=-0.1),
        RunError,
        "trust = -0.1: it must be a share of the supernet's training, 0.1 say, or 0 for no report",
    ),
    "run: trust without end": Mistake(
        run(trust=float("inf")),
        RunError,
        "trust = inf: it must be a share of the supernet's training, 0.1 say, or 0 for no report",
    ),
    "run: trust in two networks": Mistake(
        run(trust_networks=2), RunError, "trust_networks = 2: it must be a whole number, 3 or more"
    ),
    "run: too few measured": Mistake(run(measured=2), RunError, "measured = 2: it must be a whole number, 5 or more"),
    "run: training is something else": Mistake(
        run(training={"steps": 10}),
        RunError,
        "training = {'steps': 10} is no TrainingConfig: write TrainingConfig(steps=...)",
    ),
    "training: no steps": Mistake(
        lambda folder: TrainingConfig(steps=-1), TrainingError, "steps = -1: it must be 0 or more"
    ),
    "training: unknown strategy": Mistake(
        lambda folder: TrainingConfig(strategy="fairest"),
        SpellingError,
        "no strategy is called 'fairest': choose one of uniform(over), fair(rounds, batches), sandwich(num_random, ...",
    ),
    "training: unknown setting of a strategy": Mistake(
        lambda folder: TrainingConfig(strategy="uniform(power=2)"),
        SpellingError,
        "strategy 'uniform' has no setting 'power=2': its settings are over=...",
    ),
    "run: unknown sharing": Mistake(
        run(sharing="mixture"),
        SpellingError,
        "no sharing is called 'mixture': choose one of entangled, multiplexed(repeat, transform, ...",
    ),
    "run: a sharing's setting that is no number": Mistake(
        run(sharing="routed(experts=many)"),
        SpellingError,
        "sharing 'routed': experts = 'many': it must be a whole number",
    ),
    "run: another training in its folder": Mistake(
        of_other_settings_under_the_same_name,
        CheckpointError,
        'FOLDER/tiny/supernet holds checkpoints of another training: shapes is "..." there and "..." here; sharing is '
        '"entangled" there and "routed" here: go on with the settings it was begun with, choose another directory, or '
        "delete this one; or give this one a name, and with it a study and a folder, of its own: --name NAME",
    ),
    "run: a study of another space": Mistake(
        of_a_study_elsewhere,
        RunError,
        "the run file now has another space than study 'done' was searched in: bring back the file it was started with",
    ),
    "training: unknown precision": Mistake(
        lambda folder: TrainingConfig(precision="fp8"),
        TrainingError,
        "precision = 'fp8' is unknown: choose one of auto, fp32, bf16",
    ),
    "training: learning rate below 0": Mistake(
        lambda folder: TrainingConfig(lr=-1), TrainingError, "lr = -1: it must be above 0 and finite, 3e-3 say"
    ),
    "training: in a run file": Mistake(
        file("from supernets.training import TrainingConfig\nTrainingConfig(optimizer='adamx')"),
        RunError,
        "my_run.py, line 2: optimizer = 'adamx' is unknown: choose one of adamw, sgd",
    ),
    "limit: no number": Mistake(
        lambda folder: limits.parse("params <= many"),
        NasError,
        "limit 'params <= many' has the bound 'many', which is not a number; write it like 'latency_ms@cpu <= 2'",
    ),
    "limit: no operator": Mistake(
        lambda folder: limits.parse("params 100"),
        NasError,
        "'params 100' is not a limit, which consists of a metric, an operator and a number; "
        "write it like 'latency_ms@cpu <= 2'",
    ),
    "limit: unknown operator": Mistake(
        lambda folder: limits.parse("params == 100"),
        NasError,
        "limit on 'params' has the operator '=='; use one of <=, <, >=, >",
    ),
    "limit: not finite": Mistake(
        lambda folder: limits.parse("params <= inf"),
        NasError,
        "limit on 'params' has the bound inf; it must be a finite number: write it like 'latency_ms@cpu <= 2'",
    ),
    "limit: in a run": Mistake(
        run(limits=("params",)),
        NasError,
        "'params' is not a limit, which consists of a metric, an operator and a number; "
        "write it like 'latency_ms@cpu <= 2'",
    ),
    "limit: on what a study has not measured": Mistake(
        reading(lambda stored: front.front(stored, "done", ["latency_ms@cpu <= 2"])),
        NasError,
        "the limit 'latency_ms@cpu <= 2' is on a metric that was not measured; use one of the measured: error, params",
    ),
    "checkpoint: of other settings": Mistake(
        of_other_settings,
        CheckpointError,
        "FOLDER/supernet holds checkpoints of another training: config.lr is 0.003 there and 0.1 here: "
        "go on with the settings it was begun with, choose another directory, or delete this one",
    ),
    "checkpoint: of another space": Mistake(
        of_another_space,
        CheckpointError,
        'FOLDER/supernet holds checkpoints of another training: shapes is "..." there and "..." here; '
        'space is "..." there and "..." here: go on with the settings it was begun with, choose another '
        "directory, or delete this one",
    ),
    "checkpoint: a flipped bit": Mistake(
        damaged(flip, "*.safetensors"),
        NasError,
        "FOLDER/supernet holds no finished training of 'tiny' (checkpoint of step 2 in FOLDER/supernet "
        "is not used: step-000000002.safetensors does not match its SHA-256): train it with nas train",
    ),
    "checkpoint: a cut file": Mistake(
        damaged(cut, "*.safetensors"),
        NasError,
        "FOLDER/supernet holds no finished training of 'tiny' (checkpoint of step 2 in FOLDER/supernet "
        "is not used: step-000000002.safetensors does not match its SHA-256): train it with nas train",
    ),
    "checkpoint: a cut record": Mistake(
        damaged(cut, "*.json"),
        NasError,
        "FOLDER/supernet holds no finished training of 'tiny' (checkpoint of step 2 in FOLDER/supernet "
        "is not used: step-000000002.json is not JSON (Unterminated string starting at: line 1 column ... (char "
        "...))): train it with nas train",
    ),
    "checkpoint: none for an export": Mistake(
        no_weights_to_export,
        NasError,
        "FOLDER/runs/supernet holds no finished training of 'tiny': train it with nas train",
    ),
    "database: no URL": Mistake(
        opened("nas.db"),
        NasError,
        "'nas.db' is not a database URL; write it like sqlite:///nas.db or postgresql+psycopg://user@host/database",
    ),
    "database: unknown dialect": Mistake(
        opened("oracle://scott@localhost/x"),
        NasError,
        "the URL names the database 'oracle'; results are kept in sqlite:///nas.db "
        "or postgresql+psycopg://user@host/database",
    ),
    "database: unknown driver": Mistake(
        opened("postgresql+pg8000://nas@localhost/x"),
        NasError,
        "the URL names the driver 'pg8000'; write it like sqlite:///nas.db or postgresql+psycopg://user@host/database",
    ),
    "database: directory missing": Mistake(
        opened("sqlite:///{folder}/no/nas.db"),
        NasError,
        "sqlite:///FOLDER/no/nas.db: unable to open database file; the folder FOLDER/no does not exist: "
        "create it or correct the URL",
    ),
    "database: a directory": Mistake(
        opened("sqlite:///{folder}"),
        NasError,
        "sqlite:///FOLDER: unable to open database file; FOLDER is a folder: name a file in it",
    ),
    "database: nothing to read": Mistake(
        opened("sqlite:///{folder}/nas.db", read_only=True),
        NasError,
        "sqlite:///FOLDER/nas.db: unable to open database file; FOLDER/nas.db does not exist: correct the URL",
    ),
    "database: not one": Mistake(
        not_a_database,
        NasError,
        "sqlite:///FOLDER/notes.txt: file is not a database; FOLDER/notes.txt is some other file: name another one",
    ),
    "database: of another program": Mistake(
        of_another_program,
        NasError,
        "sqlite:///FOLDER/other.db holds tables of another program (songs); name another database",
    ),
    "database: a newer version": Mistake(
        of_version("9999"),
        NasError,
        f"sqlite:///FOLDER/nas.db is of version 9999, newer than {tables.VERSION}, the last this package knows; run: "
        "pip install --upgrade nas (nas storage upgrade cannot go back)",
    ),
    "database: an older version": Mistake(
        of_version("0000"),
        NasError,
        f"sqlite:///FOLDER/nas.db is of version 0000 and this package works with {tables.VERSION}; run: nas storage "
        "upgrade --storage sqlite:///FOLDER/nas.db",
    ),
    "database: driver missing": Mistake(
        without_psycopg,
        NasError,
        "postgresql+psycopg://nas@127.0.0.1/nas needs the driver psycopg; pip install nas[postgresql]",
    ),
    "database: nobody answers": Mistake(
        opened("postgresql+psycopg://nas:secret@127.0.0.1:9/nas"),
        NasError,
        "postgresql+psycopg://nas:***@127.0.0.1:9/nas: connection failed: connection to server at "
        '"127.0.0.1", port 9 failed: Connection refused; see that the server runs and that the URL\'s '
        "user, password and database are right",
    ),
    "study: unknown": Mistake(
        reading(lambda stored: front.front(stored, "nix")),
        NasError,
        "there is no study 'nix' in sqlite:///FOLDER/nas.db; there is: 'done'",
    ),
    "study: unknown, to be deleted": Mistake(
        reading(lambda stored: stored.delete_study("nix")),
        NasError,
        "there is no study 'nix' in sqlite:///FOLDER/nas.db; there is: 'done'",
    ),
    "study: another search": Mistake(
        another_search,
        NasError,
        'study \'done\' is another search (objectives ["error", "params"] there, ["error"] here; '
        'searcher random there, surrogate here; seed 0 there, 7 here; settings {} there, {"batch": 16, '
        '"data": null} here); take another name or the stored settings',
    ),
    "study: no network keeps the limit": Mistake(
        reading(lambda stored: front.best(stored, "done", ["error < 0.05"])),
        NasError,
        "no network of study 'done' keeps error < 0.05 (the nearest of 3 evaluated have error 0.1); loosen a limit or "
        "search longer",
    ),
    "study: architecture unknown": Mistake(
        reading(lambda stored: front.find(stored, "done", "zz")),
        NasError,
        "no architecture of study 'done' has a digest that starts with 'zz'; `nas front done` lists some",
    ),
    "study: architecture ambiguous": Mistake(
        reading(lambda stored: front.find(stored, "done", "")),
        NasError,
        "3 architectures of study 'done' have digests that start with ''; give more of the digest",
    ),
    "study: searcher's settings": Mistake(
        lambda folder: EvolutionarySearch(Small(), ("error",), population=1),
        NasError,
        "population is 1; evolution needs at least 2 parents",
    ),
    "supernet: unknown": Mistake(
        reading(lambda stored: stored.supernet("0123")),
        NasError,
        "there is no supernet '0123' in sqlite:///FOLDER/nas.db; there is: none",
    ),
    "export: unknown format": Mistake(
        exporting(formats=("tflite",)),
        ExportError,
        "format 'tflite' is not known: choose of safetensors, torch, onnx, transformers",
    ),
    "export: directory in use": Mistake(
        in_a_directory_in_use,
        ExportError,
        "FOLDER/network exists and is no earlier export: choose another directory or remove it",
    ),
    "export: build is a lambda": Mistake(
        exporting(lambda arch: nn.Linear(64, 10)),
        ExportError,
        "build ...:<lambda> cannot be imported by that name: define it at module level",
    ),
    "export: a subnet": Mistake(
        of_a_subnet,
        ExportError,
        "'0.weight' is a view of a larger tensor, as in a subnet: export what supernet.extract(arch) returns",
    ),
    "export: of one batch size": Mistake(
        exporting(fixed_batch, formats=("torch",)),
        ExportError,
        "FixedBatch fails on a batch of 1 (RuntimeError: shape '[2, 64]' is invalid for input of size "
        "64): make its forward independent of the batch size, and the example what it takes",
    ),
    "export: metadata": Mistake(
        exporting(metadata={"when": object()}),
        ExportError,
        "metadata must be JSON values: Object of type object is not JSON serializable",
    ),
    "data: lengths differ": Mistake(
        lambda folder: Classification((np.zeros((3, 2), np.float32), np.zeros(2, int)), labelled()),
        TaskError,
        "train has 3 inputs and 2 labels: give one label an input",
    ),
    "data: labels out of range": Mistake(
        lambda folder: Classification(labelled(), labelled(top=5), num_classes=3),
        TaskError,
        "the valid labels have 4: with num_classes = 3 they must be from 0 to 2",
    ),
    "data: text too short": Mistake(
        lambda folder: LanguageModelling(np.arange(4), np.arange(4), context=64),
        TaskError,
        "train has 4 tokens: with context = 64 give at least 65",
    ),
    "data: file missing": Mistake(
        lambda folder: data.text(folder / "book.txt"),
        DataError,
        "FOLDER/book.txt: No such file or directory: give the path of a text file",
    ),
    "demo: unknown": Mistake(
        lambda folder: demos.run_file("sound"), NasError, "no demo has the task 'sound': choose one of image, text"
    ),
    "target: no threads": Mistake(
        lambda folder: CPUTarget(threads=0),
        TargetError,
        "threads=0: give 1 or more",
    ),
    "target: a subnet": Mistake(
        lambda folder: CPUTarget().measure([Supernet(Small(), build).subnet(Small().smallest())], torch.zeros(1, 64)),
        TargetError,
        "'0.weight' is a view of a larger tensor, so the latency would include slicing: measure the network that "
        "supernet.extract(arch) returns",
    ),
    "cluster: no workers": Mistake(
        lambda folder: RayExecutor(num_workers=0), NasError, "num_workers is 0; evaluations need at least 1 worker"
    ),
    "timeout: none at all": Mistake(
        lambda folder: Placement(timeout_s=0.0),
        NasError,
        "timeout = 0.0: an evaluation may take more than 0 s; leave it out for no limit",
    ),
    "run: timeout": Mistake(
        lambda folder: replace(tiny(), timeout_s=-1),
        RunError,
        "timeout_s = -1: it must be a number of seconds, or None for no limit",
    ),
    "cluster: without a run file": Mistake(
        lambda folder: Workflow(tiny(), Repository("sqlite://"), folder, placement=Placement("local")),
        NasError,
        "workers load the run from its file: start the search from a run file",
    ),
    "dashboard: port": Mistake(
        lambda folder: serve.command(None, port=0), NasError, "port 0 is not between 1 and 65535; leave it out for 8501"
    ),
    "dashboard: host": Mistake(
        lambda folder: serve.command(None, "0.0.0.0"),
        NasError,
        "host '0.0.0.0' can be reached from other machines and the dashboard has no login; use "
        "127.0.0.1, or allow remote access explicitly",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_line_with_the_remedy(mistake: Mistake, tmp_path: Path) -> None:
    with pytest.raises(mistake.error) as raised:
        mistake.done(tmp_path)
    line = str(raised.value).replace(str(tmp_path), "FOLDER")
    assert type(raised.value) is mistake.error
    assert "\n" not in line
    assert re.fullmatch(re.escape(mistake.line).replace(r"\.\.\.", ".+"), line), line
