"""The page: what is said, in which order, and the template that it is put into."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gmmdask.record import version
from gmmdask.report import drawings, gaps, tables
from gmmdask.report.checks import findings
from gmmdask.report.findings import Facts, Use, Verdict, ended, overall
from gmmdask.report.words import count, exact, number, percent

BADGES = {Verdict.FINE: "✓ fine", Verdict.CARE: "! care", Verdict.TROUBLE: "✗ trouble", Verdict.OPEN: "? open"}
MOST_LISTED = 100  # entries of a list
URGENCY = (Verdict.TROUBLE, Verdict.CARE, Verdict.OPEN, Verdict.FINE)
SHAPES = {
    "full": "each with a centre of its own, and widths and correlations of its own in all directions",
    "tied": "each with a centre of its own, and all with the same widths and correlations",
    "diag": "each with a centre of its own and a width of its own in every feature, without correlations",
    "spherical": "each with a centre of its own and one width in all directions",
}
METHODS = {
    "Batch": "expectation maximisation (EM): every pass reads all rows and takes one step",
    "Squarem": "expectation maximisation (EM), whose steps SQUAREM extrapolates to need fewer passes",
    "Stochastic": "stochastic EM: a step after every mini-batch of rows",
    "Incremental": "incremental EM: statistics of mini-batches are kept and replaced one by one",
    "Gradient": "ascent along the gradient of the likelihood",
    "Riemannian": "ascent along the gradient of the likelihood, on the manifold of covariances",
}
WORDS = (
    ("component", "One of the Gaussian distributions that the mixture is a sum of. They are numbered from 0."),
    ("weight", "The share of the rows that a component stands for. All weights add up to one."),
    ("label", "The component that a row most probably comes from."),
    (
        "log density, nats per row",
        "The natural logarithm of how densely the model expects rows where a row is. Higher is better. Differences "
        "mean something, the number alone does not: it depends on the units of the features.",
    ),
    (
        "lower bound",
        "What the fit makes as large as it can: the mean log density of its rows, plus the log of the prior if there "
        "is one.",
    ),
    (
        "start, optimum",
        "A fit begins somewhere and climbs. Which summit (optimum) it reaches depends on the start; several starts "
        "show whether there are others.",
    ),
    (
        "adjusted Rand index",
        "How far two groupings of the same rows agree, pair by pair: 1 is the same grouping, 0 what chance would give.",
    ),
    (
        "Mahalanobis distance",
        "How far a row is from a component's mean, in standard deviations of the component in that direction. For "
        "Gaussian rows, its square follows a chi-square distribution with as many degrees of freedom as features, or, "
        "of a row that lacks values, as it has values.",
    ),
    (
        "from Gaussian",
        "Of a component, the largest difference, over all distances from its mean, between the share of its rows "
        "within a distance and the share that a Gaussian would have there (the distance of Kolmogorov and Smirnov).",
    ),
    ("kernel", "The code that evaluated the densities. Others give the same numbers but for rounding."),
    ("digest", "A fingerprint: two that differ are of different values."),
    ("collapsed", "Of a component: so narrow in some direction that its density there has no meaning."),
)


@dataclass(frozen=True)
class Group:
    """A part of the provenance: names and values."""

    title: str
    entries: Sequence[tuple[str, str]]


def render(facts: Facts, path: str) -> str:
    """The page of a model that is in the file `path`, as HTML."""
    checked = findings(facts)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figure, table = (environment.from_string(text(name)) for name in ("figure.html", "table.html"))
    selection, starts = facts.told.get("selection"), facts.told.get("starts") or ()
    values = {
        "title": title(facts),
        "lead": [what(facts), how_it_ended(facts)],
        "uses": [(use.value, *overall(checked, use)) for use in Use],
        "findings": sorted(checked, key=lambda finding: URGENCY.index(finding.verdict)),
        "badges": BADGES,
        "fit": list(how_fitted(facts)),
        "starts": tables.starts(starts) if len(starts) > 1 else None,
        "convergence": drawings.convergence(facts),
        "selection": drawings.selection(facts),
        "selection_sentence": how_chosen(facts),
        "candidates": tables.candidates(selection) if selection else None,
        "noise": noise(facts),
        "tables": [tables.components(facts), tables.means(facts)],
        "pictures": list(drawings.pictures(facts)),
        "provenance": list(provenance(facts, path)),
        "words": WORDS,
        "footer": footer(facts),
        "figure": lambda drawing: Markup(figure.render(drawing=drawing)),
        "table": lambda found, of: Markup(table.render(table=found, of=of)),
        "style": Markup(text("page.css")),
        "script": Markup(text("page.js")),
    }
    return environment.from_string(text("page.html")).render(values)


def text(name: str) -> str:
    """A file of this package."""
    return files("gmmdask.report").joinpath(name).read_text(encoding="utf-8")


def address(facts: Facts) -> str:
    """Where the rows of the fit were; "" if they were in memory or are not known."""
    return str((facts.told.get("data") or {}).get("address") or "")


def file_name(facts: Facts) -> str:
    """The last part of that."""
    return PurePosixPath(address(facts).rstrip("/")).name


def title(facts: Facts) -> str:
    mixture = f"A mixture of {count(facts.mixture.n_components, 'Gaussian')}"
    if facts.history:
        return f"{mixture}, fitted to {file_name(facts) or 'rows in memory'}"
    return f"{mixture} of {count(facts.mixture.d, 'feature')}"


def what(facts: Facts) -> str:
    """What was fitted to what."""
    mixture, data = facts.mixture, facts.told.get("data") or {}
    shape = SHAPES.get(mixture.covariance_type, f"with {mixture.covariance_type} covariances")
    model = f"a mixture of {count(mixture.n_components, 'Gaussian component')}, {shape}"
    if mixture.noise is not None:
        model += ", and uniform noise for outliers"
    size = f"{count(mixture.n_parameters, 'free parameter')} in all"
    if facts.rows is None or not facts.history:
        return f"This is {model}: {size}, for {count(mixture.d, 'feature')}."
    rows = f"{count(facts.rows, 'row')} of {count(mixture.d, 'feature')}"
    kind = f" ({data['dtype']})" if "dtype" in data else ""
    weighed = ", which have weights" if "weights" in data else ""
    where = f" in {file_name(facts)}" if address(facts) else " of an array in memory"
    return f"gmmdask has fitted {model} ({size}), to the {rows}{where}{kind}{weighed}."


def how_it_ended(facts: Facts) -> str:
    """The outcome in words, and what the report looked at."""
    words = ended(facts.told.get("outcome") or {})
    if facts.look is None:
        return f"{words} This report saw the model alone, and no rows.".strip()
    rows = {
        True: "the rows that it was fitted to",
        None: "as many as it was fitted to, perhaps the same",
        False: "other rows than those of the fit",
    }[facts.look.trained]
    seen = f"For this report it was compared with {count(facts.look.rows, 'row')} of {facts.look.name}: {rows}."
    if (shares := gaps.now(facts)).any():
        complete = percent(facts.look.seen.complete)
        seen += f" Of their values, {gaps.amount(shares, facts.names, 'are')}; {complete} of the rows are complete."
    return f"{words} {seen}".strip()


def how_fitted(facts: Facts) -> Iterator[str]:
    """The algorithm, the start, the settings that matter, and what each stage bought."""
    settings, outcome = facts.settings, facts.told.get("outcome") or {}
    if settings.get("algorithm"):
        algorithm = settings["algorithm"]
        name = str(algorithm.get("name", "")) if isinstance(algorithm, Mapping) else str(algorithm)
        start = "parameters that were given" if "given" in settings else f"the method {settings.get('init_params')}"
        prior, reg = settings.get("prior"), float(settings.get("reg_covar") or 0.0)
        yield f"The method was {METHODS.get(name, name)}. It began with {start}."
        if prior:
            yield f"The prior {prior} keeps covariances from collapsing; the lower bound has it in it."
        elif reg:
            yield f"All variances were raised by {number(reg, 2)} (squared data units) to keep them from collapsing."
    if (shares := gaps.then(facts)).any():
        missing = gaps.amount(shares, facts.names, "were")
        yield f"Of the values, {missing}; each row counted with what it had, as if values were missing at random."
    if facts.history:
        last, seconds = facts.history[-1], sum(row["seconds"] for row in facts.history)
        others = len(facts.told.get("other_runs") or {})
        shared = f", which {count(others, 'other start')} shared" if others else ""
        passes = f"{count(len(facts.history), 'pass', 'passes')} in {number(seconds)} s{shared}"
        yield f"After {passes}, the lower bound was {exact(last['lower_bound'])} nats per row."
    if outcome.get("took"):
        yield f"What each stage bought: {outcome['took']}"


def how_chosen(facts: Facts) -> str:
    """Why so many components."""
    selection = facts.told.get("selection")
    if selection:
        return str(selection["sentence"])
    return (
        f"Whoever made the fit asked for {count(facts.mixture.n_components, 'component')}; the model file names no "
        "other number that was tried. The command gmmdask select compares many on the same rows."
    )


def noise(facts: Facts) -> str:
    """How much is noise; "" of a mixture without."""
    if facts.mixture.noise is None:
        return ""
    share = percent(facts.mixture.noise.weight)
    return f"Noise, which stands for outliers all over the range of the data, holds {share}."


def provenance(facts: Facts, path: str) -> Iterator[Group]:
    """Where the model came from, as the file has it."""
    told = facts.told
    model = {
        "model file": path,
        "digest of the mixture": facts.mixture.digest,
        "run": told.get("run_id"),
        "kernel": told.get("kernel"),
        "features": facts.model.feature_names,
    }
    yield Group("Model", entries(model))
    data = {"digest" if name == "rows" else name: value for name, value in (told.get("data") or {}).items()}
    data.pop("columns", None)
    if data:
        yield Group("Rows of the fit", entries({"rows": told.get("rows"), **flat(data)}))
    settings = {name: value for name, value in facts.settings.items() if name != "given"}
    if settings:
        yield Group("Settings", entries(flat(settings)))
    if told.get("versions"):
        yield Group("Versions", entries(told["versions"]))


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Names joined to those of the values' own."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found.update({f"{name}: {inner}": deeper for inner, deeper in flat(value).items()})
        else:
            found[name] = value
    return found


def entries(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """As text; long lists are cut, and what is None is left out."""
    return [(name, listed(value)) for name, value in values.items() if value is not None]


def listed(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    return ", ".join(map(str, value[:MOST_LISTED])) + (", …" if len(value) > MOST_LISTED else "")


def footer(facts: Facts) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = f"Made by gmmdask {version('gmmdask')} on {today}."
    return f"{made} The page is one file, and asks no other computer for anything."
