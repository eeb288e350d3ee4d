"""The page of hardware targets: measurements, and the quality of latency predictors."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard import address, hardware, queries, shell, text
from dashboard.figures import latency
from dashboard.hardware import Key, Measured
from nas.records import PredictorRecord, TargetRecord

_EMPTY = """This database has no hardware targets yet. Describe a machine, and measure networks on it:

```
nas target add NAME KIND
nas target measure RUN_FILE NAME
```

The processor of this machine is there without being added, as the target `cpu`."""
_NO_PREDICTOR = """No latency predictor is stored yet: `nas target measure RUN_FILE NAME` measures networks and fits
one."""
_NO_PAIRS = "This predictor was stored without the networks that were held back, so there is nothing to draw."
_NO_VERDICT = "It has too few measurements to hold any back, so how far it can be trusted is not known."


def show_targets() -> None:
    st.title("Targets", anchor=False)
    versions = shell.repository().target_versions()
    if not versions:
        st.markdown(_EMPTY)
        return
    found = _found(versions)
    predictors = hardware.choices(shell.repository().predictors(), versions, queries.spaces(shell.repository()))
    count = sum(one.count for one in found.values())
    numbers = (len(hardware.current(versions)), "target"), (count, "measurement"), (len(predictors), "predictor")
    st.markdown(" · ".join(f"{number:,} {word}{'s' * (number != 1)}" for number, word in numbers))
    with st.container(key="machines"):
        st.table(hardware.targets_table(versions, found), hide_index=True)
    st.caption(
        "Spread: the interquartile range of a network's passes as a share of their median, in the median over all "
        "networks. Another fingerprint of the machine is another version, and its latencies are kept apart."
    )
    _show_notes(list(found.values()))
    st.divider()
    if predictors:
        _show_predictor(_pick(predictors), versions)
    else:
        shell.note(_NO_PREDICTOR)


def _found(versions: Sequence[TargetRecord]) -> dict[Key, Measured]:
    """Return the measurements on each version, reading only versions with new ones."""
    counts, url = shell.repository().num_measurements(), st.session_state["url"]
    keys = [(target.name, target.version) for target in versions]
    return {key: _measured(url, *key, *counts.get(key, (0, ""))) for key in keys}


@st.cache_resource(show_spinner=False, max_entries=256)
def _measured(url: str, name: str, version: str, count: int, last: str) -> Measured:
    return hardware.measured(shell.repository().measurements(name, version=version) if count else [])


def _show_notes(found: Sequence[Measured]) -> None:
    kinds = hardware.kinds_of_notes(found)
    if not kinds:
        return
    table = hardware.notes_table(found)
    with st.expander(f"{len(table):,} notes on measurements" if len(table) != 1 else "1 note on measurements"):
        st.markdown("\n".join(f"- {number:,} × {text.markdown(kind, 200)}" for kind, number in kinds))
        st.dataframe(
            table,
            hide_index=True,
            width="stretch",
            column_config={
                "latency (ms)": st.column_config.NumberColumn(format="%.4g"),
                "note": st.column_config.TextColumn(width="large"),
                "measured": st.column_config.DatetimeColumn(format="distance"),
            },
        )


def _pick(predictors: Mapping[str, PredictorRecord]) -> PredictorRecord:
    """Return the predictor that the user selects; the default is that of the target in the URL."""
    asked = address.get("target")
    first = next((place for place, one in enumerate(predictors.values()) if one.target == asked), 0)
    name = st.selectbox("Predictor", list(predictors), first, key="predictor", width=520)
    return predictors[name]


def _show_predictor(shown: PredictorRecord, versions: Sequence[TargetRecord]) -> None:
    _show_verdict(shown)
    now = hardware.current(versions).get(shown.target)
    if now is not None and now.version != shown.version:
        st.warning(
            f"It was fitted to an earlier version of {text.markdown(shown.target)}, which has changed since: "
            f"measure anew with `nas target measure RUN_FILE {shown.target}`.",
            icon=":material/update:",
        )
    for warning in shown.warnings:
        st.warning(text.markdown(warning, 600), icon=":material/warning:")
    left, right = st.columns([5, 4], gap="large")
    with left:
        st.subheader("Predicted against measured", anchor=False)
        _show_pairs(shown)
    with right:
        st.subheader("In figures", anchor=False)
        shell.show_facts(hardware.facts(shown))


def _show_verdict(shown: PredictorRecord) -> None:
    """Show the stored sentence on the predictor's use; computing it would load scikit-learn."""
    quality = shown.quality
    verdict, serves = str(quality.get("verdict", "")), quality.get("serves_limits")
    if serves is None:
        st.info(text.markdown(verdict, 600) or _NO_VERDICT, icon=":material/help:")
    elif serves:
        st.success(
            f"**{_sentence(verdict)}.**\n\nIt may decide on limits of latency on {text.markdown(shown.target)}.",
            icon=":material/check_circle:",
        )
    else:
        why = str(quality.get("refusal") or f"{shown.target}: it may not decide on a limit")
        st.warning(f"**{_sentence(verdict)}.**\n\n{text.markdown(why, 600)}.", icon=":material/warning:")


def _sentence(verdict: str) -> str:
    return text.markdown(verdict[:1].upper() + verdict[1:], 600)


def _show_pairs(shown: PredictorRecord) -> None:
    rows = hardware.pairs_table(shown)
    if not len(rows):
        shell.note(_NO_PAIRS)
        return
    shell.show_figure(latency.predictions_figure(rows), "predictions")
    if rows["upper"].notna().any():
        st.caption(f"Of {len(rows):,} predictions of networks held back, {_above(rows, shown)}.")


def _above(rows: pd.DataFrame, shown: PredictorRecord) -> str:
    """Return how many networks exceeded their bound, and how many may."""
    count, asked = int(rows["above"].sum()), shown.quality.get("coverage_asked")
    share = f"{count:,} ({hardware.percent(count / len(rows))})" if count else "none"
    allowed = f"; {hardware.percent(1 - asked)} may" if isinstance(asked, float) else ""
    bars = ". Bars reach up to the bound" if len(rows) <= latency.MOST_BARS else ""
    return f"{share} took longer than the bound given{allowed}{bars}"


def page() -> None:
    shell.part(show_targets, shell.REFRESH_SECONDS)


if __name__ == "__main__":
    page()
