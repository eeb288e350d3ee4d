import math

import pytest

from nas.objectives.units import metric, si


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("error", "error (%)"),
        ("top5_error", "top5 error (%)"),
        ("latency_ms@cpu", "latency (ms) on cpu"),
        ("energy_mj@pi5", "energy (mJ) on pi5"),
        ("params", "parameters"),
        ("macs", "MACs"),
        ("activation_bytes", "activations (bytes)"),
        ("loss", "loss"),
        ("word_perplexity", "word perplexity"),
        ("ms", "ms"),
    ],
)
def test_names_become_axis_titles(name: str, axis: str) -> None:
    assert metric(name).axis == axis


def test_running_text_leaves_the_unit_to_the_value() -> None:
    assert metric("latency_ms@cpu").phrase == "latency on cpu"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("error", 0.0312, "3.12 %"),
        ("latency_ms@cpu", 1.23456, "1.235 ms"),
        ("params", 48_213.0, "48.2k"),
        ("macs", 0.0, "0"),
        ("activation_bytes", 2.5e6, "2.50M bytes"),
        ("loss", 0.25, "0.25"),
        ("loss", math.nan, "–"),
    ],
)
def test_values_are_written_with_their_unit(name: str, value: float, text: str) -> None:
    assert metric(name).text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.0, "999"), (999.9, "1.00k"), (1000.0, "1.00k"), (12_345.0, "12.3k"), (-4.2e9, "-4.20G"), (0.5, "0.5")],
)
def test_si_has_three_figures(value: float, text: str) -> None:
    assert si(value) == text
