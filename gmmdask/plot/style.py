"""How pictures look: figures, axes, colours. No function touches matplotlib's global state (pyplot, rcParams)."""

import io
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, GRID = "#333333", "#8c8c8c", "#ececec"
# ten colours that people with colour-blindness tell apart (Petroff 2021, arXiv:2107.02270)
QUALITATIVE = ("3f90da", "ffa90e", "bd1f01", "832db6", "94a4a2", "a96b59", "e76300", "b9ac70", "717581", "92dadd")
LEGEND_COMPONENTS = 12  # more entries would be read by nobody


def part(name: str) -> Any:
    """The matplotlib module of a name.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        return import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise ImportError('pictures need matplotlib. Install it with: pip install "gmmdask[plot]"') from error


def new_figure(width: float, height: float) -> Any:
    """An empty figure (inches) that draws itself without a window."""
    layout = part("layout_engine").ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = part("figure").Figure(figsize=(width, height), layout=layout, facecolor="white")
    part("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def new_axes() -> "Axes":
    ax: Axes = new_figure(5.2, 4.2).add_subplot()
    return ax


def colours(n_components: int) -> Array:
    """One colour (red, green, blue) a component, (K, 3), by its number alone.

    Up to ten are apart for everybody; beyond, they go through viridis, which is ordered for everybody.
    """
    if n_components <= len(QUALITATIVE):
        return np.array([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in QUALITATIVE[:n_components]])
    shades = part("cm").viridis(np.linspace(0.0, 0.82, n_components))  # its yellow is hardly seen on white
    return np.asarray(shades[:, :3], dtype=np.float64)


def feature_name(names: Sequence[str] | None, index: int) -> str:
    """As a label: dollars are none of mathematics."""
    if names is not None and index >= len(names):
        raise ValueError(f"{len(names)} names: there is none for feature {index}.")
    return f"feature {index}" if names is None else str(names[index]).replace("$", r"\$")


def tidy(ax: "Axes", title: str = "", x: str = "", y: str = "", grid: bool = True) -> None:
    """Quiet axes: no box, a light grid behind the data, small grey ticks."""
    ax.set_axisbelow(True)
    if grid:
        ax.grid(visible=True, color=GRID, linewidth=0.8)
    else:
        ax.grid(visible=False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(colors=QUIET, labelcolor=INK, labelsize=8, length=3)
    if x:
        ax.set_xlabel(x, fontsize=9, color=INK)
    if y:
        ax.set_ylabel(y, fontsize=9, color=INK)
    if title:
        ax.set_title(title, fontsize=10, color=INK, loc="left")


def keys(mixture: Mixture) -> list[Any]:
    """Legend entries: the colour, number and weight of each component."""
    line = part("lines").Line2D
    return [
        line([], [], linestyle="", marker="o", markersize=6, color=colour, label=f"{k}: {weight:.1%}")
        for k, (colour, weight) in enumerate(zip(colours(mixture.n_components), mixture.weights, strict=True))
    ]


def panel_size(n: int) -> tuple[float, float]:
    """Inches of a figure of n small panels."""
    return 2.6 * min(n, 4) + 0.6, 1.7 * -(-n // 4) + 0.3


def panels(figure: Any, n: int) -> "list[Axes]":
    """n axes in lines of four, on a figure or a part of one."""
    across = min(n, 4)
    return [figure.add_subplot(-(-n // across), across, at + 1) for at in range(n)]


def numbers_of(ax: "Axes", x: bool = True, y: bool = False) -> None:
    """Whole numbers on axes of components."""
    for axis, wanted in ((ax.xaxis, x), (ax.yaxis, y)):
        if wanted:
            axis.set_major_locator(part("ticker").MaxNLocator(integer=True, nbins=25, min_n_ticks=1))


def listed(ax: "Axes", title: str = "") -> None:
    """A legend in the manner of the pictures."""
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, title=title or None, title_fontsize=8)


def figure_of(axes: Any) -> Any:
    """What axes, or several of them, are part of."""
    return np.ravel(np.asarray(axes, dtype=object))[0].figure


def svg(ax: Any, dpi: int = 150) -> str:
    """The figure that axes are part of as SVG, without a background; what is rasterised in it, so many dots an inch."""
    figure, text = figure_of(ax), io.StringIO()
    figure.figure.savefig(text, format="svg", dpi=dpi, transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def save(ax: Any, path: str | Path) -> None:
    """Writes the figure that axes are part of as PNG."""
    figure = figure_of(ax)
    figure.figure.savefig(path, dpi=150, format="png")  # of a part of a figure, the whole one
