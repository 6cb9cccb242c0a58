"""The tables of a report: columns that can be sorted, rows of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from gmmdask.plot.shown import telling_features
from gmmdask.report import gaps
from gmmdask.report.components import INNER, OUTER, Component
from gmmdask.report.findings import Facts
from gmmdask.report.words import MINUS, count, exact, number, percent

MOST_FEATURES = 20  # columns of means
MOST_CANDIDATES = 100
LEAST_OVERLAP = 0.005


@dataclass(frozen=True)
class Column:
    """A heading, and whether what is below are numbers."""

    title: str
    kind: str = "number"


@dataclass(frozen=True)
class Cell:
    """What is shown, and what it is sorted by."""

    text: str
    value: float | str = ""
    words: bool = False


@dataclass(frozen=True)
class Row:
    """A line: what it is about, its place, and its cells."""

    name: str
    at: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """What it is called, what has to be said before it, and its lines."""

    name: str
    lead: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def cell(value: float | None, text: str = "") -> Cell:
    """A number, by default of three digits; empty where it is not known."""
    return Cell("–") if value is None or not np.isfinite(value) else Cell(text or number(value), float(value))


def components(facts: Facts) -> Table:
    """What there is to say of each component, a line each."""
    d = facts.mixture.d
    columns = [
        Column("Weight"),
        Column("Stands out by", "text"),
        Column("Breadth"),
        Column("Narrowest"),
        Column("Overlaps most with"),
    ]
    if facts.rows is not None:
        columns.insert(1, Column("Rows"))
    if facts.look is not None:
        inner, outer = (number(float(np.sqrt(chi2.ppf(share, d)))) for share in (INNER, OUTER))
        columns += [
            Column("Certainty of labels"),
            Column(f"50 % of its rows within (Gaussian: {inner})"),
            Column(f"99 % within (Gaussian: {outer})"),
            Column("Distance from Gaussian"),
        ]
    lead = (
        "A component stands out by the features in which its mean is farthest from that of all rows, in standard "
        "deviations of these. With every feature divided by its standard deviation among all rows, its breadth is the "
        "root mean square of its own standard deviations, and its narrowest the smallest of them in any direction. "
        "Overlaps go from 0 to 1."
    )
    if facts.rows is not None:
        lead += " Rows are those of the fit, times the weight."
    if facts.look is not None:
        lead += (
            " Shares of its rows lie within Mahalanobis distances (in brackets those of a Gaussian's rows); how far it "
            "is from Gaussian is explained below."
        )
    if gaps.now(facts).any():
        lead += (
            " A row that lacks values counts with the distance of what it has, put where as few whole rows of a "
            "Gaussian are farther."
        )

    return Table("Components, one a line", lead, columns, [line(component, facts) for component in facts.components])


def line(component: Component, facts: Facts) -> Row:
    far = ", ".join(f"{name} {f'{by:+.1f}'.replace('-', MINUS)}" for name, by in component.standing_out)
    cells = [cell(component.weight, percent(component.weight))]
    if facts.rows is not None:
        cells.append(cell(component.rows, f"{component.rows or 0:,.0f}"))
    cells += [
        Cell(far or "nothing", far, words=True),
        cell(component.breadth),
        cell(component.narrow),
        cell(None if component.nearest is None else component.overlap, overlap(component)),
    ]
    if facts.look is not None:
        cells += [
            cell(component.certainty, percent(component.certainty or 0.0)),
            cell(component.inner),
            cell(component.outer),
            cell(component.gap, percent(component.gap or 0.0)),
        ]
    return Row(str(component.number), component.number, cells)


def overlap(component: Component) -> str:
    """The other one, and how much; none that is seen is none."""
    return "none seen" if component.overlap < LEAST_OVERLAP else f"{component.nearest} ({component.overlap:.2f})"


def means(facts: Facts) -> Table:
    """Means and standard deviations, of up to 20 features: those in which the components differ most."""
    mixture = facts.mixture
    shown = telling_features(mixture, MOST_FEATURES)
    deviations = np.sqrt(np.diagonal(mixture.dense_covariances(), axis1=1, axis2=2))
    rows = [
        Row(
            str(k),
            k,
            [Cell(f"{number(mean[i])} ±\N{NO-BREAK SPACE}{number(deviation[i], 2)}", float(mean[i])) for i in shown],
        )
        for k, (mean, deviation) in enumerate(zip(mixture.means, deviations, strict=True))
    ]
    which = "of every feature"
    if len(shown) < mixture.d:
        which = f"of the {len(shown)} of {mixture.d} features in which the components differ most"
    lead = f"Means ± standard deviations {which}, in the units of the data:"
    return Table("Means and standard deviations", lead, [Column(facts.names[i]) for i in shown], rows)


CANDIDATES = (
    ("Components", "components", 0),
    ("Parameters", "parameters", 0),
    ("Held-out score", "score", 5),
    ("Behind the best", "behind", 5),
    ("Standard error of that", "behind_error", 5),
    ("BIC", "bic", 1),
    ("ICL", "icl", 1),
    ("AIC", "aic", 1),
    ("Passes", "passes", 0),
)


def candidates(selection: Mapping[str, Any]) -> Table:
    """The candidates that were compared, the best by held-out score first."""
    listed = sorted(selection["table"], key=lambda row: row["behind"] if known(row.get("behind")) else np.inf)
    rows = [
        Row(f"{row['covariance_type']}, {row['components']}", at, [*numbers(row), state(row)])
        for at, row in enumerate(listed[:MOST_CANDIDATES])
    ]
    more = f" The best {MOST_CANDIDATES} of {len(listed)}:" if len(listed) > MOST_CANDIDATES else ""
    lead = f"{count(len(listed), 'candidate')}, the best by held-out score first; scores are in nats per row.{more}"
    columns = [*(Column(title) for title, _, _ in CANDIDATES), Column("What became of it", "text")]
    return Table("Candidates", lead, columns, rows)


def numbers(row: Mapping[str, Any]) -> list[Cell]:
    """What is known of a candidate, each with its digits."""
    found = []
    for _, key, digits in CANDIDATES:
        value = float(row.get(key, np.nan) if known(row.get(key)) else np.nan)
        found.append(cell(value, f"{value:,.{digits}f}".replace("-", MINUS)))
    return found


def state(row: Mapping[str, Any]) -> Cell:
    text = str(row.get("state", ""))
    return Cell(text, text, words=True)


def starts(found: Sequence[Mapping[str, float]]) -> Table:
    """Where starts ended, best first."""
    columns = [Column("Score (nats per row)"), Column("Below the best"), Column("Agreement with the best")]
    rows = [
        Row(
            str(at + 1),
            at,
            [
                cell(start["score"], exact(start["score"])),
                cell(max(found[0]["score"] - start["score"], 0.0), exact(max(found[0]["score"] - start["score"], 0.0))),
                cell(start["agreement"]),
            ],
        )
        for at, start in enumerate(found)
    ]
    lead = (
        "Where the starts ended that were run to their end, the best first. Agreement of labels is by the adjusted "
        "Rand index."
    )
    return Table("Starts", lead, columns, rows)


def known(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
