"""Planning a space: what a supernet would say, with no weights, so that size is no matter."""

import subprocess
import sys

import pytest
import torch
from zoo import ZOO

from supernets import Plan, Supernet, SupernetError

BILLION = """
import torch
from torch import nn
from search_spaces import Space, choice
from supernets import Plan

class Large(Space):
    width = choice(4096, 8192)
    depth = choice(8, 16)

class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(3, 3).tril())

def build(arch):
    blocks = nn.Sequential(*(nn.Linear(arch.width, arch.width) for _ in range(arch.depth)))
    return nn.ModuleDict({"blocks": blocks, "mask": Mask()})

plan = Plan(Large(), build)
assert plan.num_parameters > 10**9 and plan.count_parameters(Large().largest()) == plan.num_parameters
assert plan.coverage().idle == ()
buffer = plan.survey.buffers["mask.mask"]
assert torch.equal(buffer, torch.ones(3, 3).tril())
# not ru_maxrss, which begins with what the process that started this one had
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("name", list(ZOO))
def test_a_plan_says_what_the_supernet_says(name: str) -> None:
    case = ZOO[name]
    plan, net = Plan(case.space, case.build, layout=case.layout), Supernet(case.space, case.build, layout=case.layout)
    arch, example = case.space.smallest(), case.example()
    example = example.float() if example.is_floating_point() else example
    assert plan.coverage() == net.coverage()
    assert plan.num_parameters == net.num_parameters
    assert plan.count_parameters(arch) == sum(p.numel() for p in net.extract(arch).parameters())
    assert plan.profile(arch, example) == net.profile(arch, example)
    assert plan.profile(arch, example.double() if example.is_floating_point() else example) == plan.profile(
        arch, example
    )
    assert plan.profiles(example, sample=1).keys() == {"smallest", "largest", "random 1"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc")
def test_a_billion_parameters_take_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BILLION], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**20, "1 GiB, most of it imports; the weights would be 4 GiB"


class Sure(torch.nn.Linear):
    """Looks at values, which meta tensors do not have and fake ones do not tell."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) if bool((input > 0).all()) else input


def test_a_forward_that_depends_on_values_is_refused() -> None:
    from search_spaces import Space, choice

    class Width(Space):
        width = choice(2, 4)

    plan = Plan(Width(), lambda arch: Sure(arch.width, 2))
    with pytest.raises(SupernetError, match="cannot profile Sure on shapes alone"):
        plan.profile(Width().largest(), torch.ones(3, 4))
