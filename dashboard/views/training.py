"""The page of supernet training: curves of the smallest, random and largest subnets, and the loss."""

import streamlit as st

from dashboard import address, queries, shell, text
from dashboard.figures import training
from dashboard.queries import StudyView
from nas.objectives.units import metric

_NO_SUPERNET = "This study has no supernet: its networks were trained or looked up one by one, so there is no curve."
_NO_CURVE = "No training curve is stored for this study's supernet; `nas train` records one as it goes."


def show_training(shown: StudyView) -> None:
    digest = shown.study.supernet_digest
    if digest is None:
        shell.note(_NO_SUPERNET)
        return
    supernet = shell.repository().supernet(digest)
    curves = queries.curve_table(shell.repository().curve(digest))
    strategy = f" of {supernet.settings['strategy']}" if "strategy" in supernet.settings else ""
    steps = f"{supernet.steps:,} steps{strategy}, shared weights: {supernet.sharing}"
    st.caption(text.markdown(f"Supernet {supernet.name}, weights {digest[:8]}, {steps}", 300))
    if not len(curves):
        shell.note(_NO_CURVE)
        return
    subnets = curves[curves["which"] != "train"]
    for name in dict.fromkeys(subnets["metric"]):
        title, toggle = st.columns([5, 1], vertical_alignment="bottom")
        title.subheader(f"{metric(name).title.capitalize()} of subnets", anchor=False)
        log = toggle.toggle("Logarithmic", address.get("curves") == "log", key=f"log {name}")
        address.put("curves", "log" if log else "")
        shell.show_figure(training.curves_figure(curves, name, log), f"curve {name}")
    if (curves["which"] == "train").any():
        st.subheader("Training loss", anchor=False)
        shell.show_figure(training.loss_figure(curves), "loss")


def page() -> None:
    shell.live("Training", show_training)


if __name__ == "__main__":
    page()
