"""What a figure is made of, and what several of them draw alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gmmdask.mixture import Mixture
from gmmdask.plot.style import INK, QUIET, colours, tidy
from gmmdask.predict import predict
from gmmdask.sources import ArraySource

Row = Mapping[str, Any]
Columns = Sequence[tuple[str, str, str]]  # of a table: key, heading, how its numbers are written


@dataclass(frozen=True)
class Made:
    """A picture, the sentences below it, its numbers as JSON values, and tables (title, columns, rows)."""

    picture: Any
    caption: str
    numbers: Mapping[str, Any]
    tables: Sequence[tuple[str, Columns, Sequence[Row]]] = field(default=())


def posteriors(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    """Responsibilities (K, n) of rows (n, d)."""
    return np.asarray(predict(mixture, ArraySource(rows), "proba")).T


def mixed_colours(resp: np.ndarray) -> np.ndarray:
    """Colours (n, 3): those of the components, mixed as responsibilities (K, n) say."""
    return np.clip(resp.T @ colours(len(resp)), 0, 1)


def dots(ax: Any, rows: np.ndarray, colour: Any = QUIET, size: float = 9.0, opacity: float = 0.75) -> None:
    """Rows (n, 2) as dots of one colour, or of one each (n, 3)."""
    ax.scatter(rows[:, 0], rows[:, 1], s=size, c=colour, alpha=opacity, linewidths=0, rasterized=True)


def framed(ax: Any, title: str, rows: np.ndarray, margin: float = 0.06) -> None:
    """A plane of two features around rows (n, 2), with a title and without numbers on its axes."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    room = margin * (high - low)
    ax.set_xlim(low[0] - room[0], high[0] + room[0])
    ax.set_ylim(low[1] - room[1], high[1] + room[1])
    tidy(ax, title)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)


def legend(ax: Any, **options: Any) -> None:
    """A quiet legend."""
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, **options)
