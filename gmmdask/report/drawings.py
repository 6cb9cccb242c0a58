"""The pictures of a report: what they show, what to see in them, and what stands in their place for who cannot."""

import base64
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gmmdask import plot
from gmmdask.plot.matrices import certainty
from gmmdask.plot.pairs import MOST_FEATURES
from gmmdask.plot.pictures import MOST_MARGINALS
from gmmdask.plot.shown import telling_features
from gmmdask.plot.style import LEGEND_COMPONENTS, new_figure, panel_size, panels
from gmmdask.report import gaps
from gmmdask.report.examine import expected
from gmmdask.report.findings import Facts
from gmmdask.report.words import count, exact, joined, number, percent

DRAWN_ROWS = 20_000  # where no rows were given
LONG = 24  # letters of a name of a feature that a picture has room for


@dataclass(frozen=True)
class Drawing:
    """A picture as a data URI; `wide` ones take the whole page."""

    title: str
    alt: str
    caption: str
    uri: str
    wide: bool = False


def drawn(title: str, alt: str, caption: str, ax: Any, wide: bool = False) -> Drawing:
    """What axes show, with the words for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in another script: the table has it
        text = plot.svg(ax)
    uri = "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
    return Drawing(title, alt, caption, uri, wide)


def convergence(facts: Facts) -> list[Drawing]:
    """How the lower bound rose, and by how much from pass to pass, if there were passes enough to see it."""
    bounds, others = [row["lower_bound"] for row in facts.history], facts.told.get("other_runs") or {}
    if len(bounds) < 2:
        return []
    alt = (
        f"A line: the lower bound goes from {exact(bounds[0])} nats per row in the first of {len(bounds)} passes to "
        f"{exact(bounds[-1])} in the last."
    )
    caption = "Every pass makes the rows more likely under the model."
    if others:
        alt += f" Thin lines of {count(len(others), 'other start')} end below it."
        caption += " Thin grey lines are the other starts, which ended below."
    found = [drawn("Convergence", alt, caption, plot.convergence(facts.history, others=others))]
    gains = [after - before for before, after in pairwise(bounds)]
    if max(gains) > 0:
        alt = f"A line: the first pass gains {number(gains[0])} nats per row, the last {number(gains[-1])}."
        caption = "What each pass gained, on a logarithmic scale: small steps may precede larger ones."
        found.append(drawn("Gains", alt, caption, plot.gains(facts.history, others=others)))
    return found


CANDIDATES = {
    "behind": (
        "Candidates by held-out score",
        "How far the held-out score of each candidate is below that of the best: higher is better. Bars are one "
        "standard error of the difference. Hollow candidates dropped out on the way.",
    ),
    "bic": ("Candidates by BIC", "The Bayesian information criterion, which charges for parameters: lower is better."),
}


def selection(facts: Facts) -> list[Drawing]:
    """How the candidates compared that this model was chosen from."""
    told = facts.told.get("selection")
    if not told:
        return []
    rules = [
        f"{rule.replace('_', ' ')} chooses {row['covariance_type']} with {row['components']}"
        for rule, row in told["choices"].items()
    ]
    alt = f"{count(len(told['table']), 'candidate')} by their number of components: {joined(rules)}."
    return [
        drawn(title, alt, caption, plot.selection(told, criterion=criterion))
        for criterion, (title, caption) in CANDIDATES.items()
    ]


def pictures(facts: Facts) -> Iterator[Drawing]:
    """Of the mixture, and of rows."""
    names = [short(name) for name in facts.names]
    yield pairs(facts, names)
    if facts.look is not None and facts.mixture.d > 2:
        yield marginals(facts, names, facts.look.sample)
    yield from components(facts, names)
    yield from matrices(facts)


def pairs(facts: Facts, names: Sequence[str]) -> Drawing:
    """Rows and components, feature against feature."""
    mixture, look, k = facts.mixture, facts.look, facts.mixture.n_components
    rows = mixture.sample(DRAWN_ROWS, np.random.default_rng(1))[0] if look is None else look.sample
    whose = f"{count(len(rows), 'row')} {'drawn from the model itself' if look is None else 'of the data, at random,'}"
    shown = telling_features(mixture, MOST_FEATURES)
    most = (
        "features" if len(shown) == mixture.d else f"of the {len(shown)} features in which the components differ most"
    )
    alone = "the rows (filled), the model (thick line) and its components (coloured lines)"
    if len(shown) == 1:
        alt = f"A histogram of {names[0]} under curves of the model and its {count(k, 'component')}."
        return drawn(
            "The feature", alt, f"{whose.capitalize()}: {alone}.", plot.pairs(rows, mixture, shown, names=names)[0, 0]
        )
    alt = (
        f"Panels of {joined([names[i] for i in shown])}: rows as shades, {count(k, 'component')} as coloured ellipses."
    )
    caption = (
        f"Each panel shows two {most}: {whose} as shades of grey, and each component as a point (its mean) with an "
        f"ellipse in which about 86 % of its rows lie. On the diagonal: {alone}."
    )
    if k > LEGEND_COMPONENTS:
        caption += " Colours go by the number of the component, as in the picture of weights."
    if gaps.now(facts).any():
        caption += " A panel has the rows that lack neither of its features."
    axes = plot.pairs(rows, mixture, shown, names=names)
    return drawn("Pairs of features", alt, caption, axes[0, 0], wide=len(shown) > 2)


def marginals(facts: Facts, names: Sequence[str], rows: np.ndarray) -> Drawing:
    """Feature by feature, up to 16 of them."""
    shown = telling_features(facts.mixture, MOST_MARGINALS)
    axes = panels(new_figure(*panel_size(len(shown))), len(shown))
    which = "Every feature" if len(shown) == facts.mixture.d else f"The {len(shown)} features that differ most"
    caption = (
        f"{which}: the rows (filled), the model (thick line) and its components (coloured lines). Where the thick line "
        "leaves the edge of the filled area, the model does not follow the rows."
    )
    if gaps.now(facts).any():
        caption += " Rows are those that have a value; where others tell which are missing, they need not follow it."
    alt = f"Histograms of {joined([names[i] for i in shown], 16)} under curves of the model and its components."
    return drawn(
        "Feature by feature", alt, caption, plot.marginals(rows, facts.mixture, shown, axes, names)[0], wide=True
    )


def components(facts: Facts, names: Sequence[str]) -> Iterator[Drawing]:
    """What each component is like, and how heavy."""
    mixture, k = facts.mixture, facts.mixture.n_components
    if mixture.d > 1 and k > 1:
        yield drawn(
            "What each component is like",
            f"A table of colours of {count(mixture.d, 'feature')} and {count(k, 'component')}; the table of components "
            "names the strongest of each.",
            "Red: the mean of the component is above that of all rows in this feature. Blue: below.",
            plot.profiles(mixture, names=names),
            wide=max(k, mixture.d) > 20,
        )
    heaviest = max(facts.components, key=lambda c: c.weight)
    lightest = min(facts.components, key=lambda c: c.weight)
    yield drawn(
        "Weights",
        f"Bars: component {heaviest.number} is the heaviest with {percent(heaviest.weight)}, component "
        f"{lightest.number} the lightest with {percent(lightest.weight)}.",
        "The share of the rows that each component stands for. The broken line is where all would be alike.",
        plot.weights(mixture),
    )


def matrices(facts: Facts) -> Iterator[Drawing]:
    """Which components are alike, and, of rows, how certain labels and how Gaussian components are."""
    mixture, look, k = facts.mixture, facts.look, facts.mixture.n_components
    if k > 1:
        closest = max(facts.components, key=lambda c: c.overlap)
        yield drawn(
            "Overlap",
            f"A matrix: components {closest.number} and {closest.nearest} overlap most, by {closest.overlap:.2f} of 1.",
            "Strong colour (1) where two components are the same distribution, none (0) where they have nothing in "
            "common: exp(-D) of the Bhattacharyya distance D.",
            plot.similarity(mixture),
        )
    if look is None:
        return
    if k > 1:
        certain = percent(float(look.seen.posteriors.trace()) / look.seen.weight)
        yield drawn(
            "Certainty of labels",
            f"A matrix: on the average, rows have {certain} of their probability on its diagonal, in the component "
            "that they are labelled with.",
            "A line is the rows with one label, a column the probability that they give to a component. A strong "
            "diagonal means certain labels." + (" The last line and column are the noise." if mixture.noise else ""),
            certainty(look.seen.averages),
        )
    worst = max(facts.components, key=lambda c: c.gap or 0.0)
    yield drawn(
        "Distances",
        f"A curve for each component; that of component {worst.number} is farthest from the diagonal, by "
        f"{worst.gap or 0.0:.2f}.",
        "How far rows are from the means of their components, against rows of Gaussians. On the broken diagonal a "
        "component is Gaussian; above it rows are nearer than they would be, below it farther.",
        plot.calibration(expected(mixture.d), look.seen.within),
    )


def short(name: str) -> str:
    """Of a length that a picture has room for."""
    return name if len(name) <= LONG else f"{name[: LONG - 1]}…"
