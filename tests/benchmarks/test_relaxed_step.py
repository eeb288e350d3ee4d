"""The benchmark of relaxed steps: what it compares is the same expectation, and what it counts is right."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import relaxed_step as script
from benchmarks.relaxed_ways import Layer, Way, clearing, convolution, linear, spaced, ways

LAYERS = [linear(24, 16, 5), convolution(6, 4, 8, 2)]


@pytest.mark.parametrize("layer", LAYERS, ids=["linear", "convolution"])
def test_all_ways_compute_the_same_expectation(layer: Layer) -> None:
    torch.manual_seed(0)
    x = layer.example().requires_grad_()
    dense, *others = ways(layer, 3, "cpu", outputs_too=True)
    outputs, gradients = [], []
    for way in others:
        x.grad = None
        outputs.append(way.forward(x).detach())
        way.step(x)
        gradients.append([x.grad, *(logits.grad for logits in way.logits)])
        way.reset()
    assert [way.name for way in others] == ["relax", "padded weights added", "outputs mixed"]
    assert not torch.allclose(dense.forward(x), outputs[0])
    assert outputs[0].shape == dense.forward(x).shape
    for output, found in zip(outputs[1:], gradients[1:], strict=True):
        torch.testing.assert_close(output, outputs[0])
        torch.testing.assert_close(found, gradients[0])
    assert gradients[0][1].any() and gradients[0][2].any()


def test_a_reset_way_has_no_gradients() -> None:
    x = LAYERS[0].example()
    for way in ways(LAYERS[0], 2, "cpu", outputs_too=True):
        for _ in range(2):
            way.step(x)
            way.reset()
        assert all(tensor.grad is None for tensor in (*way.weights, *way.logits))


def test_sizes_end_with_the_full_one() -> None:
    assert spaced(640, 4) == (160, 320, 480, 640) and spaced(640, 3) == (213, 427, 640)


def test_what_is_kept_is_counted_once_and_weights_apart() -> None:
    weight = torch.randn(8, requires_grad=True)

    def forward(x: Tensor) -> Tensor:
        y = x.exp()  # kept, as its own derivative
        return (y.sin() + y.view(2, 4).cos().flatten()) * weight  # y again, twice; the sum, and the weight

    way = Way("test", forward, [weight], clearing(weight))
    assert script.kept(way, torch.randn(8, requires_grad=True)) == (2 * 8 * 4, 8 * 4)


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing may be written but by --out
    script.main(["--quick", "--rounds", "2", "--out", "found/relaxed.md"])
    lines = Path("found/relaxed.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][2:]
    assert len(rows) == 2 * (4 + 3) + 2 and len({tuple(row[:3]) for row in rows}) == len(rows)
    assert all(float(row[3]) > 0 for row in rows)
    assert [row[4] for row in rows if row[2] == "dense"] == ["1.00 (1.00-1.00)"] * 5
    assert "Outputs were not mixed for 3 x 3 options" in "".join(lines)
    assert [path.name for path in tmp_path.iterdir()] == ["found"]


def test_one_round_has_no_quartiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--quick", "--rounds", "1"])
    assert "--rounds 1: quartiles take 2 rounds or more" in capsys.readouterr().err
