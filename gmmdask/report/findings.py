"""Whether a fit can be trusted: what was checked, what was found, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from gmmdask.mixture import Mixture
from gmmdask.model_file import Model
from gmmdask.quantiles import Quantiles
from gmmdask.report.components import Component, describe
from gmmdask.report.examine import Look
from gmmdask.report.words import count, joined, number, sentence

SAME_SCORE, SAME_LABELS = 1e-3, 0.9  # of two starts that ended in one optimum: nats per row, adjusted Rand index
MUCH_TO_GAIN = 1e-2  # nats per row that further passes would gain


class Verdict(Enum):
    """What follows for whoever uses the model."""

    FINE = "fine"
    CARE = "care"
    TROUBLE = "trouble"
    OPEN = "open"  # it could not be checked


class Use(Enum):
    """What a model is used for, as the reader is told."""

    DENSITY = "To say how likely rows are (scores, outliers)"
    GROUPS = "To say which rows belong together (labels, components)"


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what to do (empty where nothing has to be done).

    `reason` says in a few words what speaks against the `uses`, unless the verdict is fine.
    """

    check: str
    verdict: Verdict
    found: str
    todo: str = ""
    reason: str = ""
    uses: tuple[Use, ...] = tuple(Use)


@dataclass(frozen=True, eq=False)
class Facts:
    """What a report is made of: a model, quantiles of what it expects itself, and what was seen of rows, if any."""

    model: Model
    drawn: Quantiles
    look: Look | None

    @property
    def mixture(self) -> Mixture:
        return self.model.mixture

    @property
    def told(self) -> Mapping[str, Any]:
        return self.model.provenance

    @property
    def settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.told.get("settings") or {}
        return found

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.told.get("history") or ()
        return found

    @property
    def rows(self) -> float | None:
        """Of the fit, or their weight."""
        found = self.told.get("rows")
        return None if found is None else float(found)

    @property
    def training_score(self) -> float | None:
        """Mean log density of the rows of the fit, nats per row, before its last step; without a log prior."""
        if not self.history:
            return None
        last = self.history[-1]
        return float(last.get("log_likelihood", last["lower_bound"]))

    @property
    def names(self) -> Sequence[str]:
        return self.model.feature_names or [f"feature {i}" for i in range(self.mixture.d)]

    @cached_property
    def components(self) -> list[Component]:
        return describe(self.mixture, self.names, self.rows, self.look)


# --- how the fit went ------------------------------------------------------------------------------------------


def convergence(facts: Facts) -> Finding:
    """Whether the fit ended because there was little left to gain."""
    outcome, name = facts.told.get("outcome") or {}, "Did the fit end by itself?"
    words, gain = ended(outcome), outcome.get("predicted_gain")
    match outcome.get("reason"):
        case "converged":
            found = "Yes: it stopped by its rule. Fits may rest and climb again: see the picture of gains."
            return Finding(name, Verdict.FINE, found)
        case "max_iter":
            verdict = Verdict.CARE if gain is not None and gain < MUCH_TO_GAIN else Verdict.TROUBLE
            todo = "Fit again with a higher --max-iter, or go on from the checkpoint with --resume and more passes."
            return Finding(name, verdict, f"No. {words}", todo, "the fit was stopped before it had converged")
        case "stream":
            found = f"{words} A stream has no end: the model is what has been learned so far."
            todo = "Compare its scores of recent rows from time to time."
            return Finding(name, Verdict.CARE, found, todo, "the stream may go on")
    found = f"This mixture was not made by a fit: {words or 'the file does not say what made it.'}"
    todo = "Score rows that you trust: gmmdask score DATA -m MODEL."
    return Finding(name, Verdict.OPEN, found, todo, "no fit has made it")


def ended(outcome: Mapping[str, Any]) -> str:
    """The outcome in words, as a sentence; "" if there is none."""
    words = str(outcome.get("sentence", ""))
    return sentence(f"The fit {words}" if "reason" in outcome else words)


def restarts(facts: Facts) -> Finding | None:
    """How many starts reached the best optimum, and how far apart the others ended."""
    name, starts = "Would another start have ended elsewhere?", facts.told.get("starts")
    again = "Fit again with another --seed and more starts (--n-init 20), and compare the lower bounds."
    uses = (Use.GROUPS,)
    if not facts.history or facts.mixture.n_components == 1:
        return None
    if not starts:
        found = "The model does not say where other starts have ended."
        return Finding(name, Verdict.OPEN, found, again, "nothing is known of other starts", uses)
    if len(starts) == 1:
        found = "Only one start was made. Fits of mixtures have many optima, and nothing tells how good this one is."
        return Finding(name, Verdict.CARE, found, again, "only one start was made", uses)
    others = [start for start in starts[1:] if not is_same(start, starts[0])]
    found = f"{starts_in_words(facts, starts)} {ends_in_words(starts, others, facts.rows)}"
    if len(others) < len(starts) - 1:
        return Finding(name, Verdict.FINE, found, uses=uses)
    alike = all(start["agreement"] >= SAME_LABELS for start in others)
    meaning = (
        "The groupings are much the same: the optima differ in details."
        if alike
        else "So where a fit ends depends on where it starts: better optima, of other groupings, may exist."
    )
    reason = (
        "other starts ended in optima that differ in details" if alike else "other starts grouped the rows otherwise"
    )
    return Finding(name, Verdict.CARE, f"{found} {meaning}", again, reason, uses)


def is_same(start: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether a start ended in the same optimum as the best."""
    return best["score"] - start["score"] <= SAME_SCORE and start["agreement"] >= SAME_LABELS


def starts_in_words(facts: Facts, starts: Sequence[Mapping[str, float]]) -> str:
    """How many starts there were."""
    n = len(starts)
    drawn = next((stage["starts"] for stage in facts.told.get("stages", ()) if stage.get("starts")), n)
    if drawn > n:
        return f"{count(drawn, 'start')} competed on a sample of the rows; the best {n} of them were run to their end."
    return f"{count(n, 'start')} were run to their end."


def ends_in_words(
    starts: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], rows: float | None
) -> str:
    """How many of them reached the best optimum, and where the others ended."""
    n, reached = len(starts), len(starts) - len(others)
    if not others:
        return f"All {n} reached the same optimum." if n > 2 else "Both reached the same optimum."
    who, give = ("others", "they give") if len(others) > 1 else ("other", "it gives")
    lead = "Only one" if reached == 1 else str(reached)
    below = [starts[0]["score"] - start["score"] for start in others]
    lower = f"{span(below)} nats per row" + (
        "" if rows is None else f" ({span([rows * each for each in below])} in all)"
    )
    agreement = span([start["agreement"] for start in others])
    return (
        f"{lead} of these {n} reached the best optimum that was found. The {who} ended "
        f"{lower} below it; the labels that {give} to rows agree with those of the best by an adjusted "
        f"Rand index of {agreement} (1 is the same grouping, 0 no more than chance)."
    )


def span(values: Sequence[float]) -> str:
    """As "0.2", or "0.2 to 0.5"."""
    low, high = number(min(values), 2), number(max(values), 2)
    return low if low == high else f"{low} to {high}"


def forced(facts: Facts) -> Finding | None:
    """Whether somebody has made a fit go on from a checkpoint of another."""
    told = facts.told.get("forced")
    if not told:
        return None
    found = f"No: it was resumed by force from a checkpoint of another ({told})."
    todo = "Make sure that the rows are the same."
    return Finding("Was it one fit?", Verdict.CARE, found, todo, "it was resumed by force")


# --- the whole -------------------------------------------------------------------------------------------------


def overall(found: Sequence[Finding], use: Use) -> tuple[Verdict, str]:
    """What all findings come to for a use, in a sentence."""
    of = {kind: [f.reason for f in found if f.verdict is kind and use in f.uses] for kind in Verdict}
    trouble, care, unknown = of[Verdict.TROUBLE], of[Verdict.CARE], of[Verdict.OPEN]
    if trouble:
        more = f" Care is asked for as well: {joined(care)}." if care else ""
        return Verdict.TROUBLE, f"not as it is, because {joined(trouble)}.{more}"
    if care:
        more = f" Besides, {joined(unknown)}." if unknown else ""
        return Verdict.CARE, f"with care, because {joined(care)}.{more}"
    if unknown:
        return Verdict.OPEN, f"as far as could be checked, yes; but {joined(unknown)}."
    return Verdict.FINE, "yes, nothing on this page speaks against it."
