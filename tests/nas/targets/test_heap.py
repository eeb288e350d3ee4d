"""Memory that is freed and asked for again costs no page faults."""

import resource

import pytest
import torch

from nas.targets.heap import keep_memory

MEGABYTE = 1 << 20


def test_what_was_freed_is_not_mapped_anew() -> None:
    """Without it malloc gives back what is above twice the largest block."""
    if not keep_memory():
        pytest.skip("no glibc")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [torch.ones(4 * MEGABYTE, dtype=torch.uint8) for _ in range(8)]
        del held
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    pages = 32 * MEGABYTE // resource.getpagesize()
    assert min(faults() for _ in range(5)) < pages / 20
