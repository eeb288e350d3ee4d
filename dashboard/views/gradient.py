"""The page of a gradient search: probabilities of all options, and the derived architectures."""

from collections.abc import Sequence

import streamlit as st

from dashboard import address, blocks, choices, queries, shell, text
from dashboard.choices import Choice
from dashboard.figures import drawing, probabilities
from dashboard.queries import StudyView
from nas.objectives.units import metric
from nas.records import Distribution

_NONE = "This study began without a gradient search; `nas search --gradient drnas` learns a distribution first."
_MOST_PANELS = 12  # more choices than this are shown as means of those that are alike, one at each position
_ALL = ""  # choices, rather than the positions of one family


def show_gradient(shown: StudyView) -> None:
    distributions = shell.repository().distributions(shown.study.name)
    if not distributions:
        shell.note(_NONE)
        return
    found = _pick(shown, distributions)
    _show_warnings(found, distributions)
    declaration = shown.space.declaration if shown.space else {}
    _show_derived(shown, found)
    st.divider()
    open_choices = choices.choices(found, declaration)
    if not open_choices:
        shell.note("The space leaves no choice, so there was nothing to learn.")
        return
    over_time, in_the_end = st.columns([3, 2], gap="large")
    with over_time:
        _show_steps(shown, found, open_choices)
    with in_the_end:
        st.subheader("In the end", anchor=False)
        st.caption("The darker the likelier; framed: the derived network, which has no choice that is not framed.")
        shell.show_figure(probabilities.end_figure(open_choices), "end")


def _pick(shown: StudyView, distributions: Sequence[Distribution]) -> Distribution:
    """Return the only distribution, or the one that the user selects from a front."""
    if len(distributions) == 1:
        return distributions[0]
    costs = [metric(name).phrase for name in distributions[0].settings.get("objectives", ())[1:]]
    by = f", by the weight of {' and '.join(map(text.markdown, costs))} (of 1 in all)" if costs else ""
    place = st.selectbox(
        f"One of {len(distributions)} distributions{by}",
        range(len(distributions)),
        int(min(max(0, address.number("distribution", 0)), len(distributions) - 1)),
        format_func=lambda index: distributions[index].label or f"distribution {index + 1}",
        key=f"{shown.study.name} distribution",
        width=420,
    )
    address.put("distribution", str(place), "0")
    return distributions[place]


def _show_warnings(found: Distribution, distributions: Sequence[Distribution]) -> None:
    for warning in found.warnings:
        st.warning(text.markdown(warning, 600), icon=":material/warning:")
    others = [f"**{text.markdown(one.label)}**" for one in distributions if one.warnings and one is not found]
    if others:
        st.warning(f"Read the warnings of {', '.join(others)} too.", icon=":material/flag:")


def _show_derived(shown: StudyView, found: Distribution) -> None:
    """Show the derived architecture of the distribution, and its evaluation."""
    st.subheader(f"Derived network {found.arch.digest[:8]}", anchor=False)
    weights = "trained further meanwhile" if found.settings.get("train_weights") else "as they had been trained"
    facts = [f"{found.steps[-1]:,} steps of {found.method}", f"{found.seconds:.0f} s", f"shared weights {weights}"]
    st.caption(" · ".join([*facts, *_settings(found), *_evaluated(shown, found)]))
    declaration = shown.space.declaration if shown.space else {}
    shell.show_figure(drawing.network_figure(found.arch, None, declaration), "derived")


def _settings(found: Distribution) -> list[str]:
    """Return plain values of the whole network, which a drawing of its parts omits."""
    return [text.markdown(f"{name} {value}") for name, value in blocks.settings(found.arch).items()]


def _evaluated(shown: StudyView, found: Distribution) -> list[str]:
    one = shown.evaluation(found.arch.digest)
    if one is None:
        return ["not evaluated in this study"]
    if one.error is not None:
        return [text.markdown(f"its evaluation failed: {one.error}", 300)]
    broken = [queries.limit_text(limit) for limit in queries.broken_limits(one.metrics, shown.limits)]
    broken += [f"{queries.limit_text(limit)} as measured" for limit in shown.broken_as_measured(found.arch.digest)]
    known = [
        text.markdown(f"{metric(name).phrase} {metric(name).text(one.metrics[name])}")
        for name in shown.study.objectives
    ]
    return [*known, *(f":orange[breaks {text.markdown(limit)}]" for limit in broken)]


def _show_steps(shown: StudyView, found: Distribution, open_choices: Sequence[Choice]) -> None:
    """Show all choices if there are few, else means of similar ones and, on request, the positions of one family."""
    st.subheader("Over the steps", anchor=False)
    grouped = choices.families(open_choices)
    if len(open_choices) <= _MOST_PANELS or len(grouped) == len(open_choices):
        st.caption("Probability of each option; the first at the bottom.")
        shell.show_figure(probabilities.steps_figure(open_choices, found.steps), "steps")
        return
    names = [one.family for one in grouped if one.family != one.name]
    family = st.selectbox(
        "Show", [_ALL, *names], key=f"{shown.study.name} family", format_func=lambda name: name or "all choices"
    )
    st.caption(
        "Probability of each option; the first at the bottom. Choices of one name at several positions: the mean."
    )
    panels = [one for one in open_choices if one.family == family] if family else grouped
    shell.show_figure(probabilities.steps_figure(panels, found.steps), "steps")


def page() -> None:
    shell.live("Gradient", show_gradient)


if __name__ == "__main__":
    page()
