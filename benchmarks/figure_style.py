"""Common style of the figures in the documentation: legible on light and dark pages, and on a phone.

The background is transparent and the text is a mid-grey, which has a contrast of about 4.3 : 1 to white and to the
dark pages of the documentation. Figures are 4.8 inches wide, so text of 9 points is 10 pixels high on a screen of 390.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#7A7A7A"
"""Colour of text and axes."""

WIDTH = 4.8
"""Width of a figure, in inches."""


def create_figure(height: float) -> Figure:
    """Return an empty, transparent figure of the common width and this height, in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")


def apply_style(axes: Axes) -> None:
    """Set the colours and text sizes of a panel."""
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, labelsize=9)
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_visible(spine.spine_type in ("left", "bottom"))
    axes.grid(color=INK, alpha=0.25)
