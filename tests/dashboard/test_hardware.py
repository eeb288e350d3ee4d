from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboard import hardware
from dashboard.figures import latency
from nas.records import Measurement, PredictorRecord, SpaceRecord, TargetRecord
from nas.storage import Repository
from tests.dashboard.seeding_hardware import BEFORE, CPU, GPU, NEW, TABLE
from tests.dashboard.test_pages import Open, browse, figures_of, texts

__all__ = ["browse"]  # the fixture
NOTE = "became {}% slower while it was timed"


def one(ms: float, target: TargetRecord = CPU, **more: Any) -> Measurement:
    known: dict[str, Any] = {"iqr_ms": 0.02 * ms, "created": "2026-03-01T10:00:00+00:00", **more}
    return Measurement("a" * 16, "{}", target.name, target.version, "n", ms, repeats=20, **known)


def predictor(target: TargetRecord = CPU, space: str = "s" * 16, network: str = "n", **quality: Any) -> PredictorRecord:
    return PredictorRecord(target.name, target.version, space, network, "ensemble", quality, "{}")


def test_a_version_is_summed_up() -> None:
    found = hardware.measured(
        [
            one(0.5, iqr_ms=0.05, peak_bytes=1_500_000, created="2026-03-02T10:00:00+00:00"),
            one(40, iqr_ms=0.4, peak_bytes=2_500_000, notes=(NOTE.format(7),)),
            one(2, iqr_ms=0.04),
        ]
    )
    assert (found.count, found.last, found.latency_ms) == (3, "2026-03-02T10:00:00+00:00", (0.5, 40))
    assert found.spread == pytest.approx(0.02), "of 0.1, 0.01, 0.02"
    assert found.peak_bytes == (1_500_000, 2_500_000) and found.energy_mj is None
    assert [noted.median_ms for noted in found.noted] == [40]


def test_a_table_tells_of_no_spread() -> None:
    assert hardware.measured([one(2, TABLE, iqr_ms=0.0)]).spread is None
    empty = hardware.measured([])
    assert (empty.count, empty.last, empty.latency_ms, empty.spread) == (0, "", None, None)


def test_earlier_versions_stand_below_the_current_one_and_say_what_differs() -> None:
    versions = [NEW, GPU, CPU, BEFORE]
    found = {(t.name, t.version): hardware.measured([one(2, t)]) for t in versions}
    table = hardware.targets_table(versions, found)
    assert table["target"].tolist() == ["**cpu**", "↳\u00a0earlier", "**gpu0**", "**rtx3090**"]
    assert table["machine"].tolist() == [
        "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz, 1 thread, float32",
        "differs: python 3.11.4, torch 2.4.0",
        "NVIDIA H200, 1 thread, float16",
        "NVIDIA GeForce RTX 3090, 1 thread, float32",
    ]
    assert table["version"].tolist()[0] == f"`{CPU.version[:8]}`"


def test_memory_and_energy_have_columns_where_any_is_known() -> None:
    def columns(**more: Any) -> list[str]:
        found = {("cpu", CPU.version): hardware.measured([one(2), one(3, **more)])}
        return list(hardware.targets_table([CPU], found))

    assert not {"peak memory", "energy a pass (mJ)"} & set(columns())
    assert "peak memory" in columns(peak_bytes=10) and "energy a pass (mJ)" not in columns(peak_bytes=10)
    assert "energy a pass (mJ)" in columns(energy_mj=0.5)


def test_many_differences_are_counted() -> None:
    now = TargetRecord("x", "cpu", {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2, "f": 1})
    before = TargetRecord("x", "cpu", {"a": 1, "b": 1, "c": 1, "d": 1, "f": 1})
    assert hardware.differences(before, now) == "differs: a 1, b 1, c 1, 2 more"
    assert hardware.differences(TargetRecord("x", "cpu", {}), TargetRecord("x", "cpu", {"e": 1})) == (
        "differs: e not told"
    )


@pytest.mark.parametrize(
    ("span", "name", "text"),
    [
        (None, "latency_ms", "–"),
        ((0.41234, 12.345), "latency_ms", "0.412–12.3"),
        ((2.0, 2.0), "latency_ms", "2.00"),
        ((98.7654, 1234.5), "latency_ms", "98.8–1,234"),
        ((2_080_000, 4_270_000), "peak_bytes", "2.08MB–4.27MB"),
    ],
)
def test_spans_are_short(span: hardware.Span | None, name: str, text: str) -> None:
    assert hardware.span_text(span, name).replace("\u2060", "") == text


def test_notes_of_one_kind_are_counted_together() -> None:
    found = [
        hardware.measured([one(1, notes=(NOTE.format(7),)), one(2, notes=(NOTE.format(12.5), "load 3.1"))]),
        hardware.measured([one(3, notes=(NOTE.format(9),), created="2026-04-01T10:00:00+00:00"), one(4)]),
    ]
    assert hardware.kinds_of_notes(found) == [("became … slower while it was timed", 3), ("load …", 1)]
    table = hardware.notes_table(found)
    assert table["latency (ms)"].tolist() == [3, 1, 2, 2], "the latest first"
    assert table["note"].tolist()[0] == NOTE.format(9)
    assert not len(hardware.notes_table([hardware.measured([one(4)])]))


def test_predictors_of_targets_as_they_are_come_first_and_differ_in_name() -> None:
    spaces = {"s" * 16: SpaceRecord("s" * 16, "Nets", {}), "t" * 16: SpaceRecord("t" * 16, "Nets", {})}
    found = [predictor(BEFORE), predictor(GPU), predictor(CPU), predictor(CPU, "t" * 16), predictor(GPU, "u" * 16)]
    named = hardware.choices(found, [GPU, CPU, BEFORE], spaces)
    assert list(named) == [
        "cpu  ·  Nets  ·  space ssssssss, networks n",
        "cpu  ·  Nets  ·  space tttttttt, networks n",
        "gpu0  ·  Nets",
        "gpu0  ·  uuuuuuuu",
        f"cpu  ·  Nets  ·  earlier version {BEFORE.version[:8]}",
    ]
    assert list(named.values()) == [found[2], found[3], found[1], found[4], found[0]]


def test_only_known_figures_are_facts() -> None:
    few = hardware.facts(predictor(spearman=-0.2, mape=None, coverage=None, coverage_asked=0.9, measurements=8))
    assert few["Spearman's rho"] == "−0.200" and few["measurements"] == "8"
    assert not {"mean error (MAPE)", "bounds kept", "helped by"} & set(few)
    many = hardware.facts(predictor(mape=0.0312, coverage=0.92, coverage_asked=0.9, held_back=1200, helped_by=["a"]))
    assert many["mean error (MAPE)"] == "3.1 %" and many["bounds kept"] == "92 %, 90 % asked"
    assert many["held back in turn"] == "1,200 predictions" and many["helped by"] == "a"


def test_pairs_know_which_were_slower_than_their_bound() -> None:
    rows = hardware.pairs_table(predictor(pairs=[[2, 1.9, 2.1], [2, 1.5, 1.8], [2, 1.5, None]]))
    assert rows["above"].tolist() == [False, True, False]
    assert not len(hardware.pairs_table(predictor())) and not len(hardware.pairs_table(predictor(pairs=None)))


def figure(*pairs: tuple[float, float, float | None]) -> Any:
    return latency.predictions_figure(hardware.pairs_table(predictor(pairs=list(pairs))))


def test_predictions_lie_about_one_diagonal_of_equal_axes() -> None:
    shown = figure((2, 1.9, 2.1), (3, 2.4, 2.8), (4, 4.2, 4.5))
    traces = {one.name: one for one in shown.data}
    assert shown.layout.xaxis.range == shown.layout.yaxis.range and shown.layout.xaxis.type != "log"
    assert list(traces["both agree"].x) == list(traces["both agree"].y)
    assert list(traces["held back"].x) == [2, 4] and list(traces["held back"].y) == [1.9, 4.2]
    assert list(traces["slower than its bound"].x) == [3]
    assert list(traces["held back"].error_y.array) == pytest.approx([0.2, 0.3]), "up to the bound"
    assert shown.layout.yaxis.range[1] > 4.5


def test_a_decade_of_latencies_is_shown_in_logarithms() -> None:
    shown = figure((0.5, 0.6, 0.7), (9, 8, 8.5))
    low, high = shown.layout.xaxis.range
    assert shown.layout.xaxis.type == shown.layout.yaxis.type == "log"
    assert low < -0.3 and 0.95 < high < 1.2, "in decades"
    assert figure((0.5, -0.1, 0.7), (9, 8, 8.5)).layout.xaxis.type != "log"


def test_without_bounds_and_with_many_points_there_are_no_bars() -> None:
    assert {one.name for one in figure((2, 2, None), (2, 2, None)).data} == {"both agree", "held back"}
    assert figure((2, 2, None)).data[1].error_y.array is None
    assert figure(*[(2.0, 2.0, 2.5)] * (latency.MOST_BARS + 1)).data[1].error_y.array is None


def test_the_page_shows_targets_and_the_predictor_asked_for(browse: Open) -> None:
    test = browse("targets", "digits-cnn", target="gpu0")
    assert not test.exception
    assert "5 targets · 244 measurements · 4 predictors" in texts(test)
    table = test.table[0].value
    assert len(table) == 6 and "energy a pass (mJ)" in table
    assert test.expander[0].label == "14 notes on measurements"
    assert test.selectbox(key="predictor").value == "gpu0  ·  ConvSpace"
    assert "Ranks 0.71, misses by 24 %" in test.warning[0].value and "measure 10 more" in test.warning[0].value
    assert "14 measurements for 58 features" in test.warning[1].value and not test.success
    assert test.table[1].value["value"]["bounds kept"] == "78 %, 90 % asked"


def test_a_predictor_that_serves_limits_says_so_with_its_picture(browse: Open, url: str) -> None:
    test = browse("targets")
    assert test.selectbox(key="predictor").value == "cpu  ·  ConvSpace"
    assert "It may decide on limits of latency on cpu" in test.success[0].value and not test.warning
    drawn = figures_of(test)[0]["data"]
    assert [one["name"] for one in drawn] == ["both agree", "held back", "slower than its bound"]
    with Repository(url, read_only=True) as repository:
        stored = next(one for one in repository.predictors("cpu") if one.version == CPU.version)
    late = sum(measured > upper for measured, _, upper in stored.quality["pairs"])
    assert late and f"Of 60 predictions of networks held back, {late} (" in texts(test)


def test_a_predictor_without_pairs_or_of_an_earlier_machine_says_so(browse: Open) -> None:
    test = browse("targets", target="pi5")
    assert "nothing to draw" in test.info[0].value and not figures_of(test)
    test.selectbox(key="predictor").set_value(f"cpu  ·  ConvSpace  ·  earlier version {BEFORE.version[:8]}").run()
    assert not test.exception
    assert "nas target measure RUN_FILE cpu" in test.warning[0].value


def test_without_targets_or_predictors_the_page_says_what_to_run(browse: Open, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'new.db'}"
    with Repository(storage) as repository:
        empty = texts(browse("targets", storage=storage))
        assert "nas target add NAME KIND" in empty and "nas target measure RUN_FILE NAME" in empty
        repository.add_target(CPU)
    test = browse("targets", storage=storage)
    assert not test.exception
    assert "1 target · 0 measurements · 0 predictors" in texts(test)
    assert "No latency predictor is stored yet" in test.info[0].value


def test_more_measurements_are_seen(browse: Open, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'own.db'}"
    with Repository(storage) as repository:
        repository.add_target(CPU)
        assert browse("targets", storage=storage).table[0].value["measured"].tolist() == ["0"]
        repository.add_measurements([one(2)])
        table: pd.DataFrame = browse("targets", storage=storage).table[0].value
    assert table["measured"].tolist() == ["1"] and table["latency (ms)"].tolist() == ["2.00"]


def test_too_few_to_judge_is_said(browse: Open, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'few.db'}"
    with Repository(storage) as repository:
        repository.add_target(CPU)
        repository.put_predictor(predictor())
    assert "too few measurements" in browse("targets", storage=storage).info[0].value


def test_the_front_leads_to_the_target(browse: Open) -> None:
    links = [link.proto for link in browse("front", "digits-cnn").get("page_link")]
    told = [link for link in links if "latency on cpu" in link.label]
    assert len(told) == 1 and "target=cpu" in told[0].query_string
