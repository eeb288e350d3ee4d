"""Helpers for reports of benchmarks: the machine, and tables as Markdown."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch


def machine(device: str = "cpu", threads: int | None = None) -> str:
    """Describe the machine in one line: processor or GPU, threads, versions."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    used = f", {threads} thread{'s' * (threads > 1)}" if threads else ""
    return f"{name}{used}, Python {platform.python_version()}, torch {torch.__version__}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
