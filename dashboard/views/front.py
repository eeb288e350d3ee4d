"""The page of the front, on axes of any metrics: click a point or move a limit to select a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, commands, hardware, planes, progress, queries, shell, text
from dashboard.figures import front as figures
from dashboard.figures import history
from dashboard.planes import Plane
from dashboard.queries import StudyView
from dashboard.views import networks
from nas.errors import NasError
from nas.objectives.limits import Limit, parse
from nas.objectives.units import metric

_NONE = ""
_ALL, _OVERLAY = "*", "**"  # of several targets; no name has a star in an address
_MOST_LISTED = 200  # networks that a list offers
_LEVELS = {"reliable": "green", "rough": "blue", "unreliable": "orange", "unknown": "gray"}
_WORDS = {"reliable": "reliable", "rough": "rough", "unreliable": "not reliable", "unknown": "not known"}


def show_front(shown: StudyView) -> None:
    _show_trust(shown)
    reason = queries.why_empty(shown)
    if reason:
        shell.note(text.markdown(reason, 600))
        return
    if len(shown.metrics) < 2:
        _show_single(shown)
        return
    target = _pick_target(shown)
    if target == _OVERLAY:
        _show_overlay(shown)
        return
    target = "" if target == _ALL else target
    axes, logs, whole = _pick_axes(shown, target)
    chart, details = st.columns([3, 2], gap="large")
    with chart:
        place = st.container()
        plane = _pick_limits(shown, axes, target, whole)
        network, compared = _chosen(shown, plane)
        with place:
            figure = _show_chart(shown, plane, logs, network, compared)
        _explain(shown, plane)
        _offer_downloads(shown, plane, figure)
    with details:
        _show_network(shown, plane, network, compared)
    _show_selected(shown, plane)
    _show_growth(shown, plane)


# --- what the front is worth


def _show_trust(shown: StudyView) -> None:
    """Show in one line how far the ranking of the networks and the latencies can be trusted."""
    digest, parts = shown.study.supernet_digest, []
    study = {"study": address.key(shown.study.name)}
    if digest is not None:
        trust = shell.repository().trust(digest)
        level = trust.level if trust else "unknown"
        told = (trust.banner or trust.verdict) if trust else "no network was trained alone to check the shared weights"
        parts.append(("views/trust.py", f"order of networks: {_WORDS[level]}", _LEVELS[level], told, study))
    for name in progress.targets(shown):
        found = _predictor(shown, name)
        if found is not None:
            serves = found.quality.get("serves_limits")
            word = {True: "may decide on limits", False: "not good enough for limits", None: "not checked"}[serves]
            color = {True: "green", False: "orange", None: "gray"}[serves]
            told, query = str(found.quality.get("verdict") or "never held back any"), {**study, "target": name}
            parts.append(("views/targets.py", f"latency on {name}: {word}", color, told, query))
    for page, label, color, told, query in parts[:4]:
        st.page_link(
            page,
            label=f":{color}-badge[{text.markdown(label, 60)}] {text.markdown(told, 160)}",
            query_params=query,
            help="Says more",
        )


def _predictor(shown: StudyView, target: str) -> Any:
    """Return the newest latency predictor of a target for the study's space."""
    found = shell.repository().predictors(target)
    own = [one for one in found if shown.space is not None and one.space_digest == shown.space.digest]
    return own[-1] if own else None


def _shares(shown: StudyView, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return, for latencies among the metrics, the interval of measured over predicted values."""
    found = {}
    for name in names:
        one = _predictor(shown, metric(name).device) if name.startswith("latency_ms@") else None
        share = hardware.shares(one) if one is not None else None
        if share:
            found[name] = share
    return found


# --- controls


def _key(shown: StudyView, name: str) -> str:
    """Return a key of the session state that is specific to the study."""
    return f"{shown.study.name} {name}"


def _pick_target(shown: StudyView) -> str:
    """Let the user select one of a study's targets, all of them, or all in one figure."""
    targets = shown.targets
    if not targets:
        return ""
    options = [_ALL, *targets, _OVERLAY]
    names = {_ALL: "all targets", _OVERLAY: "side by side"}
    picked = st.segmented_control(
        "Front of",
        options,
        default=address.choice("on", options, targets[0]),
        format_func=lambda name: names.get(name, text.markdown(name, 40)),
        key=_key(shown, "on"),
        required=True,
    )
    address.put("on", str(picked), targets[0])
    return str(picked)


def _pick_axes(shown: StudyView, target: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Let the user select two or three metrics, logarithmic axes, and the objectives of the front."""
    names, goals = list(shown.metrics), [name for name in shown.study.objectives if name in shown.metrics]
    first = goals[0] if goals else names[0]
    own = f"latency_ms@{target}"
    second = own if own in names else next((name for name in [*goals, *names] if name != first), first)
    x_slot, y_slot, z_slot, more = st.columns([3, 3, 3, 2.4])
    x = _pick(shown, x_slot, "Across", "x", names, second, target)
    y = _pick(shown, y_slot, "Up", "y", names, first, target)
    z = _pick(shown, z_slot, "Colour", "z", [_NONE, *names], _NONE, target)
    wide = [name for name in (x, y) if queries.spans_widely(shown.front, name)]
    chosen = address.get_all("log")
    default = [name for name in dict.fromkeys((x, y)) if (name in chosen if chosen else name in wide)]
    picked = more.pills(
        "Logarithmic",
        list(dict.fromkeys((x, y))),
        selection_mode="multi",
        default=default,
        format_func=lambda name: "across" if name == x else "up",
        key=_key(shown, f"log {x} {y}"),
    )
    address.put("log", list(picked or [_NONE]) if set(picked or []) != set(wide) else [])
    axes = (x, y, z) if z else (x, y)
    return axes, tuple(picked or []), _pick_whole(shown, axes, target)


def _pick(shown: StudyView, slot: Any, label: str, name: str, options: list[str], default: str, target: str) -> str:
    first = address.choice(name, options, default)
    picked = slot.selectbox(
        label,
        options,
        options.index(first),
        format_func=lambda one: text.shortened(metric(one).axis, 50) if one else "–",
        key=_key(shown, f"{name} {target}"),
    )
    address.put(name, str(picked), default)
    return str(picked)


def _pick_whole(shown: StudyView, axes: Sequence[str], target: str) -> bool:
    """Let the user select the front of all objectives (the default unless it is crowded) or of the axes."""
    count = 2 if target else len(shown.study.objectives)
    if set(axes) == set(shown.study.objectives) or target or count < 3:
        return True
    crowded = planes.is_crowded(shown)
    options = ["shown", "all"]
    labels = {"shown": "the metrics shown", "all": f"all {count} objectives"}
    picked = st.segmented_control(
        "Front in",
        options,
        default=address.choice("front", options, options[not crowded]),
        format_func=labels.__getitem__,
        key=_key(shown, "front in"),
        required=True,
        help="With many objectives nearly every network is best in some way, and a front of all of them says little.",
    )
    address.put("front", str(picked), options[not crowded])
    return picked == "all"


def _pick_limits(shown: StudyView, axes: Sequence[str], target: str, whole: bool) -> Plane:
    """Return the plane under the user's limits, after the user's number of evaluations."""
    base = planes.plane(shown, axes, target=target, whole=whole)
    asked = {one.metric: one.value for one in map(_parsed, address.get_all("limit")) if one}
    uppers = [one.metric for one in base.limits if one.is_upper]
    names = [name for name in dict.fromkeys([axes[0], *uppers]) if name in shown.metrics and name != axes[1]]
    moved = {}
    slots = st.columns(max(2, min(3, len(names) + 1)))
    for slot, name in zip(slots, names[: len(slots) - 1], strict=False):
        with slot:
            value = _slide(shown, base, name, asked.get(name))
        if value is not None:
            moved[name] = value
    with slots[-1]:
        upto = _slide_evaluations(shown)
    address.put("limit", [f"{name}<={value:.6g}" for name, value in moved.items()])
    return planes.plane(shown, axes, target=target, moved=moved, upto=upto, whole=whole)


def _parsed(limit: str) -> Limit | None:
    try:
        return parse(limit)
    except NasError:
        return None  # an address is typed by anyone; what is no limit moves none


def _slide(shown: StudyView, base: Plane, name: str, asked: float | None) -> float | None:
    """Return the moved bound of a metric; None if it is the study's own."""
    own = next((one.value for one in base.limits if one.metric == name and one.is_upper), None)
    options = planes.bounds(base.table[name], own)
    if len(options) < 3:
        return None
    default = own if own is not None else options[-1]
    first = min(options, key=lambda value: abs(value - asked)) if asked is not None else default
    named = metric(name)
    picked = float(
        st.select_slider(
            f"{text.markdown(named.phrase)} at most",
            options,
            first,
            format_func=lambda value: named.text(value) if own is not None or value != options[-1] else "no limit",
            key=_key(shown, f"limit {name}"),
            on_change=_forget_network,
            args=(shown,),
            help="Slide, and the best network that keeps the limit is chosen.",
        )
    )
    return None if picked == default else picked


def _slide_evaluations(shown: StudyView) -> int | None:
    """Return the number of evaluations to show; None for all."""
    count = len(shown.table)
    if count < 3:
        return None
    asked = int(min(max(2, address.number("upto", count)), count))
    picked = int(
        st.slider(
            "Evaluations",
            2,
            count,
            asked,
            key=_key(shown, "upto"),
            help="Slide back to see the front as it was after so many evaluations.",
        )
    )
    address.put("upto", str(picked), str(count))
    return None if picked == count else picked


# --- the chosen network


def _forget_network(shown: StudyView) -> None:
    """Clear the selected network after a limit was moved, so that the best one under it is shown."""
    st.session_state.pop(_key(shown, "network"), None)
    address.put("architecture", "")


def _chosen(shown: StudyView, plane: Plane) -> tuple[int | None, int | None]:
    """Return positions of the selected and the compared network: clicked, in the URL, or else the front's best."""
    found = [_place(shown, name) for name in ("architecture", "compare")]
    network = found[0] if found[0] is not None and found[0] in plane.table.index else plane.best()
    return network, found[1] if found[1] != network else None


def _place(shown: StudyView, name: str) -> int | None:
    one = shown.evaluation(address.get(name))
    return None if one is None or one.error is not None else shown.places[one.arch.digest]


def _take_selection(shown: StudyView, places: Sequence[int]) -> None:
    """Select a clicked point, compare with a second one, or list several."""
    known = [place for place in dict.fromkeys(places) if 0 <= place < len(shown.table)]
    digests = [str(shown.table["_digest"].iloc[place]) for place in known]
    if not digests:
        return
    if len(digests) > 2:
        address.put("among", [digest[:12] for digest in digests[:_MOST_LISTED]])
    else:
        address.put("among", [])
        address.put("architecture", digests[0][:12])
        address.put("compare", digests[1][:12] if len(digests) > 1 else "")
    for name in ("network", "compared"):
        st.session_state.pop(_key(shown, name), None)


def _show_chart(shown: StudyView, plane: Plane, logs: Sequence[str], network: int | None, compared: int | None) -> Any:
    figure = figures.front_figure(
        plane, logs=logs, chosen=network, compared=compared, shares=_shares(shown, plane.axes)
    )
    shell.show_figure(
        figure,
        _key(shown, "chart"),
        "Front: networks in the plane of two metrics",
        toolbar={
            "toImageButtonOptions": {"format": "svg", "filename": f"front {text.shortened(shown.study.name, 40)}"},
            "modeBarButtonsToAdd": ["select2d", "lasso2d"],
            "modeBarButtonsToRemove": ["autoScale2d", "zoomIn2d", "zoomOut2d", "pan2d"],
        },
        on_select=lambda places: _take_selection(shown, places),
    )
    return figure


def _explain(shown: StudyView, plane: Plane) -> None:
    """Explain how to use the chart, and what its marks mean."""
    told = ["Click a point for its network, hold Shift and click another to compare, or draw a lasso round several."]
    if any(queries.measured(name) in plane.table for name in plane.axes):
        told.append("Open diamonds: as measured on the network itself.")
    st.caption(" ".join([*told, *_bars_told(shown, plane)]))
    if shown.corrected:
        st.caption(text.markdown(shown.corrected.sentence, 600))


def _bars_told(shown: StudyView, plane: Plane) -> list[str]:
    if len(plane.front) > figures.MOST_BARS:
        return []
    told = []
    if _shares(shown, plane.axes[:2]):
        told.append("where 90 % of held-back measurements lay beside what was predicted")
    if any(queries.spread(name) in plane.table for name in plane.axes[:2]):
        told.append("one standard deviation of a corrected metric")
    return [f"Bars: {'; '.join(told)}."] if told else []


def _offer_downloads(shown: StudyView, plane: Plane, figure: Any) -> None:
    name = "".join(one if one.isalnum() or one in "-_" else "_" for one in text.shortened(shown.study.name, 40))
    with st.container(horizontal=True):
        st.download_button(
            "Table (CSV)",
            lambda: networks.as_csv(shown, plane.front),
            f"{name}-front.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
            key=_key(shown, "csv"),
        )
        st.download_button(
            "Picture (HTML)",
            lambda: figure.to_html(include_plotlyjs=True, config={"displaylogo": False}),
            f"{name}-front.html",
            "text/html",
            on_click="ignore",
            icon=":material/download:",
            key=_key(shown, "html"),
            help="The camera above the chart saves it as SVG.",
        )


def _show_network(shown: StudyView, plane: Plane, network: int | None, compared: int | None) -> None:
    if network is None:
        st.warning(text.markdown(_none_keeps(shown, plane), 600), icon=":material/block:")
        return
    _pick_networks(shown, plane, network, compared)
    one = shown.at(network)
    other = None if compared is None else shown.at(compared)
    networks.show_metrics(shown, one, other)
    networks.say_place(shown, plane, one)
    query = {"study": address.key(shown.study.name), "architecture": one.arch.digest[:12]}
    if other is not None:
        query["compare"] = other.arch.digest[:12]
    st.page_link(
        "views/architecture.py",
        label=f"Architecture {one.arch.digest[:8]}" + (f" beside {other.arch.digest[:8]}" if other else ""),
        icon=":material/account_tree:",
        query_params=query,
    )
    command = commands.export(shown.study.name, one.arch.digest, shell.repository().url)
    st.markdown(text.code(command))  # `st.code` brings a highlighter for all languages, which takes half a second


def _none_keeps(shown: StudyView, plane: Plane) -> str:
    """Show that no network keeps the limits, and which one comes nearest."""
    said = " and ".join(map(queries.limit_text, plane.limits)) or "no limit"
    near = networks.nearest(shown, plane)
    closest = f"; {near[0].arch.digest[:8]} comes nearest: {near[1]}" if near else ""
    return f"No network of this study keeps {said}{closest}. Loosen a limit, or search longer."


def _pick_networks(shown: StudyView, plane: Plane, network: int, compared: int | None) -> None:
    """Show lists of the front to select from by keyboard or digest."""
    places = [*plane.front.index, *plane.table.index[plane.table["_refuted"]]][:_MOST_LISTED]
    options = [int(place) for place in dict.fromkeys([*places, network, *([] if compared is None else [compared])])]

    def label(place: int) -> str:
        return "–" if place < 0 else networks.label(shown, place)

    keys = {name: _key(shown, name) for name in ("network", "compared")}
    for name, place in (("network", network), ("compared", -1 if compared is None else compared)):
        st.session_state[keys[name]] = place
    ask: dict[str, Any] = {"on_change": _write_choice, "args": (shown,), "format_func": label}
    st.selectbox("Network", options, key=keys["network"], **ask)
    st.selectbox("Compare with", [-1, *options], key=keys["compared"], **ask)


def _write_choice(shown: StudyView) -> None:
    """Write the selection in the lists to the URL, from which all else is read."""
    state = st.session_state
    for name, parameter in (("network", "architecture"), ("compared", "compare")):
        place = state.get(_key(shown, name), -1)
        address.put(parameter, str(shown.table["_digest"].iloc[place])[:12] if place >= 0 else "")


# --- below the chart


def _show_selected(shown: StudyView, plane: Plane) -> None:
    """List the networks selected by lasso; a click on one selects it."""
    places = [shown.places[one.arch.digest] for one in map(shown.evaluation, address.get_all("among")) if one]
    if not places:
        return
    rows = plane.table.loc[[place for place in places if place in plane.table.index]]
    title, clear = st.columns([5, 1], vertical_alignment="bottom")
    title.subheader(f"{len(rows):,} networks chosen", anchor=False)
    clear.button("Clear", on_click=lambda: address.put("among", []), key=_key(shown, "clear"))
    event = st.dataframe(
        networks.listed(shown, rows),
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-cell",
        key=_key(shown, f"chosen {len(rows)} {places[0]}"),
    )
    cells = event["selection"]["cells"]
    if cells:
        address.put("architecture", str(rows["_digest"].iloc[cells[0][0]])[:12])
        address.put("among", [])
        st.rerun(scope="fragment")


def _show_growth(shown: StudyView, plane: Plane) -> None:
    names = plane.objectives
    if len(names) > progress.MOST_OBJECTIVES or len(shown.table) < 3:
        return
    told = st.expander("Hypervolume over the evaluations", key=_key(shown, "grown"), on_change="rerun")
    if told.open:
        grown = progress.hypervolume_history(plane.table, names)
        with told:
            shell.show_figure(history.hypervolume_figure(grown), _key(shown, "growth"))


def _show_overlay(shown: StudyView) -> None:
    """Show the fronts of all targets in one figure, each over its own latency."""
    first = shown.study.objectives[0]
    fronts = {name: shown.table[shown.table[f"_front@{name}"]] for name in shown.targets}
    x = {name: f"latency_ms@{name}" for name in shown.targets}
    shell.show_figure(figures.fronts_figure(fronts, x, first, "latency (ms)"), _key(shown, "overlay"))
    counts = [f"{text.markdown(name)}: {len(rows):,}" for name, rows in fronts.items()]
    shared = set.intersection(*(set(rows["_digest"]) for rows in fronts.values())) if fronts else set()
    st.caption(f"Networks on each front: {', '.join(counts)}; on all of them: {len(shared):,}.")


def _show_single(shown: StudyView) -> None:
    """List the best networks of a study with a single metric; a click opens one."""
    name = shown.metrics[0]
    best = shown.table[shown.table["_feasible"]].sort_values(name).head(50)
    said = text.markdown(metric(name).axis)
    st.caption(f"This study measures {said} alone, so there is no front. These are its best networks; click to open.")
    table = pd.DataFrame({"network": best["_digest"].str[:8], metric(name).axis: best[name].map(metric(name).text)})
    event = st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-cell",
        key=_key(shown, "best"),
    )
    cells: Sequence[Any] = event["selection"]["cells"]
    if cells:
        query: Mapping[str, str] = {
            "study": address.key(shown.study.name),
            "architecture": str(best["_digest"].iloc[cells[0][0]])[:12],
        }
        st.switch_page("views/architecture.py", query_params=dict(query))


def page() -> None:
    shell.live("Front", show_front)


if __name__ == "__main__":
    page()
