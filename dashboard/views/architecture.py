"""The page of one network: drawing, metrics with their uncertainty, neighbours, origin and export."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, blocks, commands, encoding, exports, hardware, planes, queries, shell, text, theme
from dashboard.encoding import Encoded
from dashboard.exports import Export
from dashboard.figures import drawing
from dashboard.queries import StudyView
from dashboard.views import layers, networks
from nas.objectives.units import metric
from nas.records import Evaluation, Origin

_MOST_OFFERED = 200
_MOST_READ = 10_000  # networks among which neighbours are looked for, the last ones
_NOTHING = "–"


def show_architecture(shown: StudyView) -> None:
    reason = queries.why_empty(shown)
    if reason:
        shell.note(text.markdown(reason, 600))
        return
    network, compared = _pick(shown)
    declaration = shown.space.declaration if shown.space else {}
    _show_drawing(network, compared, declaration, theme.ACCENT)
    if compared:
        _show_drawing(compared, network, declaration, theme.OTHER)
        _show_difference(network, compared)
    layers.show_graphs(network.arch)
    left, right = st.columns([1, 1], gap="large")
    with left:
        st.subheader("Values", anchor=False)
        networks.show_metrics(shown, network, compared)
        networks.say_place(shown, planes.plane(shown, shown.metrics[:2]), network)
        _show_latencies(shown, network)
        _show_life(shown, network)
        _show_parents(shown, network)
    with right:
        _show_neighbours(shown, network)
        _show_commands(shown, network)
        written = exports.found(exports.runs_folder())
        _show_exports(network, written)
    _show_costs(network, compared, written)
    with st.expander(f"All values of {network.arch.digest[:8]}"):
        values = {path: str(value) for path, value in encoding.chosen(network.arch)}
        st.dataframe(pd.DataFrame({"choice": list(values), "value": list(values.values())}), hide_index=True)
        st.code(network.arch.json(), language="json", wrap_lines=True)


def _pick(shown: StudyView) -> tuple[Evaluation, Evaluation | None]:
    """Return the network in the URL, or else the best one, and the one to compare it with."""
    asked = address.get("architecture")
    found = shown.evaluation(asked)
    if asked and (found is None or found.error is not None):
        st.warning(f"This study has no network {text.markdown(asked)}; here is its best.")
    front = shown.front.index.tolist() or shown.table.index[~shown.table["_failed"]].tolist()
    first = shown.places[found.arch.digest] if found and found.error is None else front[0]
    other = shown.evaluation(address.get("compare"))
    second = shown.places[other.arch.digest] if other and other.error is None else -1
    extra = [place for place in (first, second) if place >= 0]
    options = [int(place) for place in dict.fromkeys([*front[:_MOST_OFFERED], *extra])]
    state, keys = st.session_state, (f"{shown.study.name} network", f"{shown.study.name} compared")
    for key, place in zip(keys, (first, second), strict=True):
        state[key] = int(place)

    def label(place: int) -> str:
        return _NOTHING if place < 0 else networks.label(shown, place)

    ask: dict[str, Any] = {"format_func": label, "on_change": _write, "args": (shown, keys)}
    left, right = st.columns(2)
    left.selectbox("Network", options, key=keys[0], **ask)
    right.selectbox("Compare with", [-1, *options], key=keys[1], **ask)
    return shown.at(int(first)), shown.at(int(second)) if second >= 0 and second != first else None


def _write(shown: StudyView, keys: tuple[str, str]) -> None:
    for key, parameter in zip(keys, ("architecture", "compare"), strict=True):
        place = st.session_state[key]
        address.put(parameter, str(shown.table["_digest"].iloc[place])[:12] if place >= 0 else "")


def _show_drawing(network: Evaluation, other: Evaluation | None, declaration: Mapping[str, Any], color: str) -> None:
    theirs = blocks.settings(other.arch) if other else None
    common = []
    for name, value in blocks.settings(network.arch).items():
        said = text.markdown(f"{name} {value}")
        common.append(f":orange[**{said}**]" if theirs and theirs.get(name) != value else said)
    st.subheader(f"Network {network.arch.digest[:8]}", anchor=False)
    if common:
        st.caption(" · ".join(common))
    figure = drawing.network_figure(network.arch, other.arch if other else None, declaration, color)
    shell.show_figure(figure, f"drawing {network.arch.digest}", f"Drawing of network {network.arch.digest[:8]}")


def _show_difference(network: Evaluation, compared: Evaluation) -> None:
    pairs = network.arch.diff(compared.arch)
    st.subheader(f"{len(pairs)} values differ" if len(pairs) != 1 else "1 value differs", anchor=False)
    table = pd.DataFrame(
        {
            "value": list(pairs),
            network.arch.digest[:8]: [_written(mine) for mine, _ in pairs.values()],
            compared.arch.digest[:8]: [_written(theirs) for _, theirs in pairs.values()],
        }
    )
    st.dataframe(table, hide_index=True, width="stretch", height=min(320, 38 + 35 * len(table)))


def _written(value: Any) -> str:
    return "absent" if value is None else str(value)


# --- what is known of it


def _show_latencies(shown: StudyView, network: Evaluation) -> None:
    """Show predicted latency with its interval and measured latency with its spread, on every target."""
    rows = []
    for target in shell.repository().targets():
        name = f"latency_ms@{target.name}"
        measured = shell.repository().measurements(target.name, [network.arch.digest], version=target.version)
        if name not in network.metrics and not measured:
            continue
        predicted, last = network.metrics.get(name, math.nan), measured[-1] if measured else None
        rows.append(
            {
                "target": text.markdown(target.name, 40),
                "predicted": metric(name).text(predicted) + _interval(shown, target.name, predicted),
                "measured": f"{metric(name).text(last.median_ms)} (± {last.iqr_ms / 2:.2g})" if last else _NOTHING,
                "measured is": networks.change(name, predicted, last.median_ms) if last else _NOTHING,
            }
        )
    if not rows:
        return
    st.subheader("Latency on every target", anchor=False)
    st.table(pd.DataFrame(rows), hide_index=True)
    st.caption(
        "Predicted: with the interval in which 90 % of held-back measurements lay. Measured: median of the passes, and "
        "half their interquartile range."
    )


def _interval(shown: StudyView, target: str, predicted: float) -> str:
    found = [one for one in shell.repository().predictors(target) if one.space_digest == shown.study.space_digest]
    share = hardware.shares(found[-1]) if found and math.isfinite(predicted) else None
    return f" ({predicted * share[0]:.3g} to {predicted * share[1]:.3g})" if share else ""


def _show_life(shown: StudyView, network: Evaluation) -> None:
    """Show how and when the network was proposed, and the cost of its evaluation."""
    place = shown.places[network.arch.digest]
    life = shell.repository().life(shown.study.name, int(shown.columns.positions[place]))
    learnt = [one for one in shell.repository().distributions(shown.study.name) if one.arch == network.arch]
    proposer = f"the gradient search {learnt[0].label}".strip() if learnt else f"searcher {shown.study.searcher}"
    st.subheader("Life", anchor=False)
    shell.show_facts(
        {
            "proposed by": proposer,
            **({"how": _came(life.origin)} if life.origin else {}),
            **({"stored": _time(life.stored)} if life.stored is not None else {}),
            "evaluated": f"{place + 1:,} of {len(shown.table):,}",
            "on": network.worker or "this machine",
            "took": f"{network.seconds:.3g} s",
            "study begun": shown.study.created.replace("T", " ")[:16] + " UTC",
            "weights": f"supernet {shown.study.supernet_digest[:8]}" if shown.study.supernet_digest else "its own",
        }
    )


def _came(origin: Origin) -> str:
    of = f" of {' and '.join(parent[:8] for parent in origin.parents)}" if origin.parents else ""
    return origin.how + of


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _show_parents(shown: StudyView, network: Evaluation) -> None:
    """Show links to the network's parents, with the changes from each."""
    life = shell.repository().life(shown.study.name, int(shown.columns.positions[shown.places[network.arch.digest]]))
    for digest in life.origin.parents if life.origin else ():
        if digest in shown.places:
            query = {"study": address.key(shown.study.name), "architecture": network.arch.digest[:12]}
            label = f"Beside its parent {digest[:8]}"
            st.page_link("views/architecture.py", label=label, query_params={**query, "compare": digest[:12]})


# --- neighbours


@st.cache_resource(show_spinner=False, max_entries=8)
def _encoded(url: str, study: str, created: str, start: int, count: int, _shown: StudyView) -> Encoded:
    return encoding.encoded(_shown.archs(range(start, count)), range(start, count))


def encoded(shown: StudyView, place: int = 0) -> Encoded:
    """Encode the study's last networks, and the one at `place`."""
    count = len(shown.table)
    start = max(0, min(place, count - _MOST_READ))
    end = min(count, start + _MOST_READ) // 50 * 50 or count  # not read again at each evaluation of a running study
    end = max(end, place + 1) if shown.is_running else min(count, start + _MOST_READ)
    return _encoded(st.session_state["url"], shown.study.name, shown.study.created, start, end, shown)


def _show_neighbours(shown: StudyView, network: Evaluation) -> None:
    """Show evaluated networks that are one change away, and the change of their metrics."""
    st.subheader("One change away", anchor=False)
    place = shown.places[network.arch.digest]
    near = [(at, change) for at, change in encoding.neighbours(encoded(shown, place), place) if at != place]
    rows = [(at, change, shown.at(at)) for at, change in near if not shown.table["_failed"].iloc[at]]
    if not rows:
        st.caption("No network one change away has been evaluated.")
        return
    names = [name for name in shown.study.objectives if name in network.metrics]
    table = pd.DataFrame({"change": [change for _, change, _ in rows]})
    table["network"] = [one.arch.digest[:8] for _, _, one in rows]
    for name in names:
        known = [one.metrics.get(name, math.nan) for _, _, one in rows]
        table[metric(name).axis] = [networks.change(name, network.metrics[name], value) for value in known]
    table["_sort"] = [one.metrics.get(names[0], math.inf) for _, _, one in rows] if names else 0.0
    order = table.sort_values("_sort").index
    event = st.dataframe(
        table.loc[order].drop(columns="_sort"),
        hide_index=True,
        width="stretch",
        height=min(390, 38 + 35 * len(table)),
        on_select="rerun",
        selection_mode="single-cell",
        key=f"neighbours {network.arch.digest}",
    )
    st.caption(f"{len(rows):,} evaluated; what the change does to each objective. Click one to compare it.")
    cells = event["selection"]["cells"]
    if cells:
        other = rows[order[cells[0][0]]][2]
        address.put("compare", other.arch.digest[:12])
        del st.session_state[f"neighbours {network.arch.digest}"]
        st.rerun(scope="fragment")


# --- taking it home


def _show_commands(shown: StudyView, network: Evaluation) -> None:
    st.subheader("Take it home", anchor=False)
    broken = queries.broken_limits(network.metrics, shown.limits)
    if broken:
        said = " and ".join(text.markdown(queries.limit_text(limit)) for limit in broken)
        st.caption(f"Mind that it breaks {said}.")
    url = shell.repository().url
    st.caption("Write it as files that run without this package:")
    st.code(commands.export(shown.study.name, network.arch.digest, url), language="bash", wrap_lines=True)
    st.caption("Train it further from its inherited weights, then write it:")
    st.code(commands.finetune(shown.study.name, network.arch.digest, url), language="bash", wrap_lines=True)


def _show_exports(network: Evaluation, written: Sequence[Export]) -> None:
    """Show downloads of this network's exports."""
    for one in written:
        if one.digest != network.arch.digest:
            continue
        kind = "fine-tuned export" if one.finetuned else "export"
        st.download_button(
            f"Download {kind} {text.markdown(one.name, 50)}",
            partial(exports.packed, one.id, exports.runs_folder()),
            f"{network.arch.digest[:8]}.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/download:",
            key=f"export {one.id}",
        )


def _show_costs(network: Evaluation, compared: Evaluation | None, written: Sequence[Export]) -> None:
    """Show parameters and MACs per part of this network and the compared one, if they are exported.

    Counting runs the user's code, so only the export does it.
    """
    st.subheader("Parameters and MACs by part", anchor=False)
    known = {one.digest: one for one in reversed(written)}
    asked = [one.arch.digest for one in (network, compared) if one]
    found = {digest[:8]: exports.costs(known[digest]) for digest in asked if digest in known}
    if any(len(table) for table in found.values()):
        st.dataframe(exports.side_by_side(found), hide_index=True, width="stretch")
        st.caption("MACs: multiply-accumulates of one example; shares of the whole in brackets.")
    for digest in asked:
        if digest not in known:
            st.caption(f"Those of {digest[:8]} are known once it is exported below the folder of runs.")


def page() -> None:
    shell.live("Architecture", show_architecture)


if __name__ == "__main__":
    page()
