"""The two structural words: what they are called in a parameter's path, and that they add nothing else."""

import ast
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from supernets import structure
from supernets.structure import OneOf, Stack, one_of, stack


def convolution(kernel: int) -> nn.Module:
    return nn.Conv2d(2, 2, kernel, padding=kernel // 2)


OPTIONS = {"conv3x3": lambda: convolution(3), "conv5x5": lambda: convolution(5), "skip": nn.Identity}


def test_a_stack_is_a_sequential_with_the_same_names_and_outputs() -> None:
    blocks = [nn.Linear(3, 3), nn.Linear(3, 3)]
    plain, stacked = nn.Sequential(*blocks), stack(iter(blocks))
    x = torch.randn(4, 3)
    assert isinstance(stacked, Stack) and len(stacked) == 2
    assert list(stacked.state_dict()) == list(plain.state_dict())
    assert torch.equal(stacked(x), plain(x))


def test_an_empty_stack_is_the_identity() -> None:
    x = torch.randn(2, 3)
    assert stack([])(x) is x


def test_one_of_names_its_parameters_after_the_choice() -> None:
    ops = nn.ModuleList([one_of("skip", OPTIONS), one_of("conv3x3", OPTIONS)])
    assert list(ops.state_dict()) == ["1.conv3x3.weight", "1.conv3x3.bias"]


def test_one_of_builds_only_what_was_chosen() -> None:
    built: list[str] = []

    def record(name: str) -> nn.Module:
        built.append(name)
        return nn.Identity()

    chosen = one_of("b", {"a": lambda: record("a"), "b": lambda: record("b")})
    assert built == ["b"]
    assert (chosen.chosen, chosen.options) == ("b", ("a", "b"))


def test_one_of_computes_what_its_operation_computes() -> None:
    chosen = one_of("conv5x5", OPTIONS)
    x = torch.randn(1, 2, 8, 8)
    assert torch.equal(chosen(x), chosen.get_submodule("conv5x5")(x))


def test_one_of_may_be_saved_although_its_options_were_lambdas() -> None:
    chosen = one_of("conv3x3", OPTIONS)
    again = pickle.loads(pickle.dumps(chosen))
    assert isinstance(again, OneOf) and again.chosen == "conv3x3"


@pytest.mark.parametrize(("name", "words"), [("conv9x9", "conv3x3"), ("a.b", "dots"), ("forward", "no attribute")])
def test_a_bad_choice_is_one_line_that_says_what_to_do(name: str, words: str) -> None:
    options = dict(OPTIONS) if name == "conv9x9" else {name: nn.Identity}
    with pytest.raises(ValueError, match=words) as error:
        one_of(name, options)
    assert "\n" not in str(error.value) and repr(name) in str(error.value)


def test_structure_is_pure_torch_and_short() -> None:
    source = Path(structure.__file__).read_text()
    names = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= {"torch", *sys.stdlib_module_names}
    assert len(source.splitlines()) < 270
