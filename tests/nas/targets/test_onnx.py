"""Networks in ONNX Runtime: the contract, and what they are run with."""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nas.targets import ONNXTarget, Target, TargetError
from tests.contracts.target import TargetContract

INSTALLED = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not INSTALLED, reason="ONNX is an extra")


@needs_onnx
class TestONNXTarget(TargetContract):
    @pytest.fixture
    def target(self) -> Target:
        return ONNXTarget(budget_s=0.02, max_repeats=20)


@needs_onnx
def test_the_network_is_run_by_onnx_runtime_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen, started = [], onnxruntime.InferenceSession

    def session(path: str, options: "onnxruntime.SessionOptions", **settings: object) -> object:
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return started(path, options, **settings)

    calls = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(1)
            return super().forward(x)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    (result,) = ONNXTarget(threads=3, budget_s=0.02, precision="float16").measure([Counted(4, 2)], torch.randn(5, 4))
    assert seen == [(3, 1)]
    assert len(calls) < result.repeats, "PyTorch runs it for the export alone"
    assert result.conditions["dtypes"] == ["float16"] and result.conditions["threads"] == 3
    assert result.peak_bytes is None


@needs_onnx
def test_a_network_without_an_onnx_form_is_an_error() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(
        TargetError, match=r"Odd does not run in ONNX Runtime: .*: measure it on a target of another kind"
    ):
        ONNXTarget().measure([Odd()], torch.randn(1, 2))


@pytest.mark.parametrize("ask", [lambda t: t.describe(), lambda t: t.measure([nn.Linear(1, 1)], torch.zeros(1, 1))])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, ask: Callable[[Target], object]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"target 'edge' .* onnx is not installed: pip install nas\[onnx\]"):
        ask(ONNXTarget("edge"))


def test_settings_out_of_range_are_an_error() -> None:
    with pytest.raises(TargetError, match="precision='bfloat16' is unknown to ONNX targets: choose float32 or float16"):
        ONNXTarget(precision="bfloat16")
