"""The front door: declaring, reading, narrowing, inheriting and versioning spaces."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from search_spaces import Architecture, Choice, Space, SpaceError, choice, constraint


class TinyViT(Space):
    width = choice(64, 96, 128)
    depth = choice(2, 3, 4)
    heads = choice(2, 3, 4, per="depth")
    ratio = choice(2, 3.5, 4, per="depth")

    @constraint(each="depth")
    def divides(width, heads):
        return width % heads == 0


class Conv(Space):
    kernel = choice(3, 5)
    groups = choice(1, 2)


class Attn(Space):
    heads = choice(2, 4)


class Stage(Space):
    depth = choice(1, 2)
    block = choice(Conv(), Attn(), per="depth")


class Net(Space):
    stem = Conv(kernel=3)
    stages = choice(Stage(), per=2)
    head = choice("linear", [16, 32])


ARCH = {
    "stem": {"kernel": 3, "groups": 1},
    "stages": [
        {"depth": 1, "block": [{"is": "Conv", "kernel": 5, "groups": 2}]},
        {"depth": 2, "block": [{"is": "Attn", "heads": 2}, {"is": "Conv", "kernel": 3, "groups": 1}]},
    ],
    "head": [16, 32],
}


def test_an_architecture_reads_like_its_declaration() -> None:
    arch = TinyViT().architecture({"width": 64, "depth": 2, "heads": [2, 4], "ratio": [2.0, 3.5]})
    assert (arch.width, arch["depth"], arch.heads, arch.kind) == (64, 2, (2, 4), "TinyViT")
    assert type(arch.ratio[0]) is int  # 2.0 is the option 2
    assert repr(arch) == "TinyViT(width=64, depth=2, heads=(2, 4), ratio=(2, 3.5))"
    assert arch.json() == '{"depth":2,"heads":[2,4],"is":"TinyViT","ratio":[2,3.5],"width":64}'
    assert list(arch) == ["width", "depth", "heads", "ratio"]
    assert {**arch}["width"] == 64
    assert "width" in dir(arch)


def test_a_misspelt_choice_is_pointed_out() -> None:
    arch = TinyViT().largest()
    with pytest.raises(AttributeError, match=r"^TinyViT has no active choice 'widht'; did you mean 'width'\?$"):
        _ = arch.widht
    with pytest.raises(AttributeError, match="there are: width, depth, heads, ratio"):
        _ = arch.zzz
    with pytest.raises(AttributeError, match="an architecture is frozen"):
        arch.width = 96
    with pytest.raises(AttributeError, match="an architecture is frozen"):
        del arch.width
    with pytest.raises(AttributeError, match=r"a space is frozen; where\(width=...\) gives a narrower one"):
        TinyViT().width = choice(3)


def test_nested_spaces_are_nested_values() -> None:
    space = Net()
    arch = space.architecture(ARCH)
    assert arch.stages[1].block[0].heads == 2
    assert arch.stages[0].block[0] == Conv().architecture({"kernel": 5, "groups": 2})
    assert arch.head == (16, 32)
    assert arch.to_dict()["stem"] == {"is": "Conv", "kernel": 3, "groups": 1}
    assert space.architecture(arch) == space.architecture(arch.json()) == arch
    assert space.count() == 2 * (6 + 36) ** 2 * 2
    assert [slot.path for slot in space.slots][:8] == [
        "stem", "stem.kernel", "stem.groups", "stages.0", "stages.0.depth",
        "stages.0.block.0", "stages.0.block.0.Conv.kernel", "stages.0.block.0.Conv.groups",
    ]  # fmt: skip


def test_differences_go_by_path() -> None:
    space = Net()
    one = space.architecture(ARCH)
    other = space.architecture({**ARCH, "stages": [ARCH["stages"][0], ARCH["stages"][0]], "head": "linear"})
    assert one.diff(other) == {
        "stages.1.depth": (2, 1),
        "stages.1.block.0.is": ("Attn", "Conv"),
        "stages.1.block.0.heads": (2, None),
        "stages.1.block.1.is": ("Conv", None),
        "stages.1.block.1.kernel": (3, None),
        "stages.1.block.1.groups": (1, None),
        "head.0": (16, None),
        "head.1": (32, None),
        "stages.1.block.0.kernel": (None, 5),
        "stages.1.block.0.groups": (None, 2),
        "head": (None, "linear"),
    }


def test_json_numbers_keep_their_types() -> None:
    one, other = Architecture.from_json('{"is": "A", "x": 1}'), Architecture.from_json('{"is": "A", "x": true}')
    assert one != other and one.digest != other.digest and one.diff(other) == {"x": (1, True)}
    with pytest.raises(SpaceError, match=r'does not say what it is; an architecture\'s JSON carries "is"'):
        Architecture.from_json('{"x": 1}')
    with pytest.raises(SpaceError, match=r"^'\[1\]' is not an architecture; give the JSON object"):
        Architecture.from_json("[1]")
    with pytest.raises(SpaceError, match="nan is not a number JSON can hold"):
        Architecture.from_json('{"is": "A", "x": NaN}')


def test_only_canonical_architectures_of_the_space_are_in_it() -> None:
    space = TinyViT()
    arch = space.largest()
    assert arch in space and arch not in Net() and {"width": 64} not in space
    assert Architecture("TinyViT", {**arch, "width": 128.0}) not in space
    assert arch not in space.where(width=64)
    assert Architecture("TinyViT", {**arch, "width": 64, "heads": (2, 3, 4, 4)}) not in space  # 64 % 3


def test_positions_where_a_condition_fails_are_none() -> None:
    class Cell(Space):
        depth = choice(1, 2, 3)
        op = choice("conv", "pool", per="depth")
        kernel = choice(3, 5, per="depth", when={"op": "conv"})

    space = Cell()
    arch = space.architecture({"depth": 2, "op": ["pool", "conv"], "kernel": [None, 5]})
    assert arch.kernel == (None, 5)
    assert space.count() == 3 + 9 + 27
    with pytest.raises(SpaceError, match=r"kernel.0: 5 is given where .* it needs op.0 in \('conv'\)"):
        space.architecture({"depth": 2, "op": ["pool", "conv"], "kernel": [5, 5]})


def test_choices_may_depend_on_later_ones() -> None:
    class Late(Space):
        heads = choice(2, 4, per="depth")
        depth = choice(1, 2)

    assert Late().count() == 6


def test_narrowing_is_a_value_and_keeps_the_slots() -> None:
    space = TinyViT()
    narrow = space.where(width=(64, 96), **{"heads.0": 2})
    assert narrow == TinyViT(width=(64, 96)).where(**{"heads.0": 2}) != space
    assert hash(narrow) == hash(TinyViT(width=(96, 64), **{"heads.0": (2,)}))
    assert narrow.where(width=[64, 96, 128]) == narrow
    assert narrow.slots == space.slots and narrow.digest != space.digest
    assert repr(narrow) == "TinyViT().where(**{'width': (64, 96), 'heads.0': (2,)})"
    assert pickle.loads(pickle.dumps(narrow)) == narrow
    assert {arch.heads[0] for arch in narrow.sample_many(50, np.random.default_rng(0))} == {2}


def test_paths_reach_into_nested_spaces() -> None:
    space = Net()
    assert space.where(**{"stages.depth": 1}).count() == 2 * 36 * 2
    assert space.where(**{"stages.0.depth": 1, "stages.block": "Attn"}).count() == 2 * 2 * (2 + 4) * 2
    assert space.where(**{"stages.block.Conv.kernel": 3}) == space.where(**{"stages.block.kernel": 3})
    assert space.where(head=[[16, 32]]) == space.where(head=(16, 32))
    assert space.where(stem="Conv") == space
    assert Net(**{"stem.groups": 1}).count() * 2 == Net().count()


def test_values_are_fixed_whole_or_by_position() -> None:
    space = TinyViT().at(width=96, heads=(2, 3))
    assert {arch.heads[:2] for arch in space.sample_many(50, np.random.default_rng(0))} == {(2, 3)}
    assert Net().at(stem={"groups": 2}, head=[16, 32]).count() == (6 + 36) ** 2
    assert Net().at(**Net().architecture(ARCH)).count() == 1


def test_fields_are_inherited_and_may_be_replaced() -> None:
    class Deeper(TinyViT):
        depth = choice(2, 8)
        drop = choice(0.0, 0.1)

    space = Deeper()
    assert list(space.largest()) == ["width", "depth", "heads", "ratio", "drop"]
    assert len(space.largest().heads) == 8
    assert space.architecture({"width": 64, "depth": 2, "heads": [2, 2], "ratio": [2, 2], "drop": 0}).drop == 0.0
    with pytest.raises(SpaceError, match=r"Deeper.divides: the constraint does not hold for width=64, heads=3"):
        space.architecture({"width": 64, "depth": 2, "heads": [3, 2], "ratio": [2, 2], "drop": 0.1})
    assert isinstance(Deeper.width, Choice) and Deeper.divides(64, 2)


def test_a_space_may_draw_its_own_graph() -> None:
    graph = Net().graph(Net().architecture(ARCH))
    assert list(graph) == [
        "input", "stem", "stages.0", "stages.0.block.0", "stages.1", "stages.1.block.0", "stages.1.block.1", "output",
    ]  # fmt: skip
    assert graph.nodes["input"]["values"] == {"head": [16, 32]}
    assert graph.nodes["stages.0.block.0"] == {
        "label": "Conv: kernel=5, groups=2", "kind": "Conv", "path": "stages.0.block.0",
        "values": {"kernel": 5, "groups": 2},
    }  # fmt: skip
    blocks = TinyViT().graph(TinyViT().smallest())
    assert blocks.nodes["heads.1"]["values"] == {"heads": 2, "ratio": 2}


def test_a_version_changes_with_the_declaration_and_old_architectures_stay_valid() -> None:
    def version(*widths: int) -> Space:
        space: Space = type("Growing", (Space,), {"width": choice(*widths), "depth": choice(1, 2)})()
        return space

    old, new = version(16, 32), version(16, 24, 32)
    assert old.digest == version(16, 32).digest != new.digest
    for arch in old.enumerate():
        assert arch in new
        assert Architecture.from_json(arch.json()) in new
        assert new.architecture(arch.json()).digest == arch.digest


def test_digests_are_the_same_in_every_process() -> None:
    code = (
        "from search_spaces import Space, choice\n"
        "class A(Space):\n    x = choice(1, 2.5, 'é', None, [1, 'b'])\n    y = choice(1, 2, when={'x': (1, 2.5)})\n"
        "print(A().digest, A().largest().digest)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_features_say_what_they_are() -> None:
    class Mixed(Space):
        depth = choice(0, 1)
        op = choice("a", "b")
        width = choice(1, 2, 5, per="depth")
        bias = choice(True, False, when={"op": "a"})
        fixed = choice(7)
        far = choice(0, 1, 10**400)

    space = Mixed()
    assert space.feature_names() == (
        "depth", "op='a'", "op='b'", "width.0", "width.0 active", "bias=True", "bias=False", "far",
    )  # fmt: skip
    arch = space.architecture({"depth": 1, "op": "b", "width": [2], "fixed": 7, "far": 1})
    assert space.encode([arch]).tolist() == [[1, 0, 1, 0.25, 1, 0, 0, 0.5]]
    without = space.architecture({"depth": 0, "op": "a", "width": [], "bias": False, "fixed": 7, "far": 0})
    assert space.encode([without]).tolist() == [[0, 1, 0, 0, 0, 0, 1, 0]]
    assert space.encode([]).shape == (0, 8)
    assert space.codes(iter([arch])).tolist() == [[1, 1, 1, -1, 0, 1]]


def test_mutation_changes_about_one_choice() -> None:
    space = TinyViT(depth=4)
    rng = np.random.default_rng(0)
    arch = space.largest()
    assert 1 <= np.mean([len(arch.diff(space.mutate(arch, rng))) for _ in range(300)]) < 2


def test_operators_pull_architectures_into_a_narrower_space() -> None:
    narrow = TinyViT(width=64)
    rng = np.random.default_rng(0)
    wide = TinyViT().largest()
    assert narrow.mutate(wide, rng) in narrow
    assert narrow.crossover(wide, wide, rng) in narrow
    assert all(arch in narrow for arch in narrow.neighbours(wide))


def test_children_inherit_what_either_parent_has() -> None:
    space = Net()
    rng = np.random.default_rng(0)
    a = space.at(**{"stages.block": "Conv", "stages.depth": 2, "stages.block.kernel": 5}).largest()
    b = space.at(**{"stages.block": "Attn", "stages.depth": 2, "stages.block.heads": 2}).largest()
    for _ in range(50):
        child = space.crossover(a, b, rng)
        blocks = [block for stage in child.stages for block in stage.block]
        assert all(block.get("kernel", 5) == 5 and block.get("heads", 2) == 2 for block in blocks)


def test_numpy_scalars_are_options_too() -> None:
    class Numpy(Space):
        width = choice(*np.array([16, 32]))

    assert type(Numpy().largest().width) is int


class Forked(Space):
    split = choice(0, 1, 3)
    first = choice("a", "b", per=3)
    second = choice("a", "b", "c", per=3, start="split")


def test_positions_may_begin_at_a_choice() -> None:
    space = Forked()
    assert space.count() == len(list(space.enumerate())) == 8 * (27 + 9 + 1)
    arch = space.architecture({"split": 1, "first": ["a", "b", "b"], "second": [None, "c", "a"]})
    assert arch.second == (None, "c", "a") and Architecture.from_json(arch.json()) == arch
    assert all((one.second[i] is None) == (i < one.split) for one in space.enumerate() for i in range(3))
    assert space.declaration()["choices"]["second"]["start"] == "split"
    assert space.where(split=3).largest().second == (None, None, None)
    with pytest.raises(SpaceError, match=r"second.0: 'a' is given where the choice is not active; it needs split in"):
        space.architecture({"split": 1, "first": ["a", "b", "b"], "second": ["a", "c", "a"]})
