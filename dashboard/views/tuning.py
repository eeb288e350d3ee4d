"""The page of `nas tune`: networks trained alone under a budget, and the accuracy of forecasts."""

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import address, exports, shell, text, tuning
from dashboard.figures import tuning as figures
from dashboard.tuning import Tuning
from nas.objectives.units import metric

_EMPTY = """There are no logs of `nas tune` below `{folder}`. Train networks alone under a budget, and look again:

```
nas tune RUN_FILE --method forecast --schedule constant
```

Another folder of runs is named by the environment variable NAS_RUNS when the dashboard is started."""
_NO_FORECASTS = "Hyperband forecasts nothing: in each rung, the best of those that are there go on."
_NOT_YET = "Nothing was forecast yet: the first trainings are chosen at random."


def show_tuning() -> None:
    st.title("Tuning", anchor=False)
    folder = exports.runs_folder()
    files = tuning.found(folder)
    if not files:
        st.markdown(_EMPTY.format(folder=text.shortened(folder)))
        return
    labels = list(files)
    asked = address.choice("log", labels, labels[0])
    picked = st.selectbox("Search", labels, labels.index(asked), key="log", width=520, format_func=text.shortened)
    address.put("log", picked, labels[0])
    path = files[picked]
    told = path.stat()
    _show(_read(str(path), told.st_size, told.st_mtime_ns))


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(path: str, size: int, written: int) -> Tuning:
    return tuning.read(Path(path))


def _show(shown: Tuning) -> None:
    curves, forecasts = tuning.curves_table(shown), tuning.forecasts_table(shown)
    if curves.empty:
        shell.note("No training has ended yet.")
        return
    named = metric(shown.objective)
    best = tuning.best(curves)
    unit = "epochs" if shown.method == "forecast" else "units of budget"
    left, right = st.columns(2, gap="large")
    with left:
        title, toggle = st.columns([5, 2], vertical_alignment="bottom")
        title.subheader("Curves, and where each was stopped", anchor=False)
        log = toggle.toggle("Logarithmic", address.get("curves") == "log", key="tuning log")
        address.put("curves", "log" if log else "")
        shell.show_figure(
            figures.curves_figure(curves, shown.objective, unit, best, log), "curves", "Learning curves of trainings"
        )
        if best is not None:
            end = curves[(curves["training"] == best) & curves["last"]].iloc[0]
            found = f"**{best[:8]}**, {text.markdown(named.phrase)} {named.text(end['value'])}"
            st.caption(f"The best is {found} at {end['budget']:,} of {shown.largest:,} {unit}.")
        _show_failures(shown)
    with right:
        st.subheader("Forecast against outcome", anchor=False)
        if len(forecasts):
            shell.show_figure(figures.forecasts_figure(forecasts, shown.objective), "forecasts", "Forecasts, outcomes")
            st.caption(f"Of each epoch that was chosen for its forecast. Bars are to hold {tuning.COVERAGE:.0%}.")
        else:
            shell.note(_NOT_YET if shown.method == "forecast" else _NO_FORECASTS)
        shell.show_facts(_facts(shown, curves, forecasts))


def _facts(shown: Tuning, *tables: pd.DataFrame) -> dict[str, str]:
    named = metric(shown.objective)

    def written(name: str, value: int | float) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return f"{value:.0%}" if name.startswith("outcomes") else named.text(value)

    return {name: written(name, value) for name, value in tuning.facts(shown, *tables).items()}


def _show_failures(shown: Tuning) -> None:
    reasons = [trial.error for trial in shown.trials if trial.error is not None]
    if reasons:
        with st.expander(f"{len(reasons):,} failed" if len(reasons) > 1 else "1 failed"):
            st.markdown("\n".join(f"- {text.markdown(reason, 300)}" for reason in dict.fromkeys(reasons)))


def page() -> None:
    shell.part(show_tuning, shell.REFRESH_SECONDS)


if __name__ == "__main__":
    page()
