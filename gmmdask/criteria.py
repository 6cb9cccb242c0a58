"""Which of several candidates to take: scores of held-out rows with paired errors, BIC, AIC, ICL, and the choices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmdask.covariance._base import Array

FITTED = "fitted"
Row = dict[str, Any]
CHOICES = ("one_standard_error", "bic", "icl", "aic")
WHY = {  # by the rule, and whether it takes more parameters
    ("bic", True): "over {rows:,.0f} rows a gain too small for the held-out rows to show pays for its parameters",
    ("bic", False): "its price of a parameter, which grows with the rows, asks for more evidence than held-out rows do",
    ("icl", True): "what held-out rows cannot show still pays for its parameters, and the components hardly overlap",
    ("icl", False): "it counts against a mixture that components overlap",
    ("aic", True): "its price of a parameter does not grow with the rows",
    ("aic", False): "it judges by the rows that the mixtures were fitted to",
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is known of one candidate in the end.

    Parameters
    ----------
    passes : laps over the data.
    state : "fitted", "dropped on the sample", "dropped after pass N", or "failed: why".
    log_densities : (h,) of the held-out rows, in nats; None if there is no mixture.
    lower_bound : nats per row; the next two, in nats, are of all rows too; None if it was not fitted to the end.
    log_likelihood, entropy : Σ w log p(x) and -Σ w r log r.
    """

    covariance_type: str
    components: int
    parameters: int
    passes: int
    state: str
    converged: bool
    log_densities: Array | None = None
    lower_bound: float | None = None
    log_likelihood: float | None = None
    entropy: float | None = None

    def criteria(self, weight: float) -> dict[str, float | None]:
        """BIC = -2 LL + p log W, AIC = -2 LL + 2 p, ICL = BIC + 2 EN (Biernacki, Celeux and Govaert 2000); smaller is
        better.
        """
        if self.log_likelihood is None or self.entropy is None:
            return dict.fromkeys(("bic", "aic", "icl"))
        deviance = -2 * self.log_likelihood
        bic = deviance + self.parameters * float(np.log(weight))
        return {"bic": bic, "aic": deviance + 2 * self.parameters, "icl": bic + 2 * self.entropy}


def mean_and_error(values: Array, weights: Array | None) -> tuple[float, float]:
    """Mean of values (h,) with weights (h,), or None for ones, and its standard error."""
    h = len(values)
    weights = np.ones(h) if weights is None else weights
    mean = float(weights @ values / weights.sum())
    spread = weights * (values - mean)
    return mean, float(np.sqrt(spread @ spread * (h / (h - 1))) / weights.sum())


def leader(scores: Sequence[float | None]) -> int:
    """The place of the highest score; of equal ones the first."""
    return max((i for i, score in enumerate(scores) if score is not None), key=lambda i: (scores[i], -i))


def tabulated(candidates: Sequence[Candidate], weights: Array | None, weight: float) -> tuple[Row, ...]:
    """A row a candidate: JSON values.

    Parameters
    ----------
    weights : (h,) of the held-out rows, None where all weigh one.
    weight : of all rows, W.
    """
    told = [None if c.log_densities is None else mean_and_error(c.log_densities, weights) for c in candidates]
    eligible = [score[0] if score and c.state == FITTED else None for score, c in zip(told, candidates, strict=True)]
    best = candidates[leader(eligible)].log_densities
    assert best is not None
    rows = []
    for c, score in zip(candidates, told, strict=True):
        behind = (None, None) if c.log_densities is None else mean_and_error(best - c.log_densities, weights)
        rows.append(
            {
                "covariance_type": c.covariance_type,
                "components": c.components,
                "parameters": c.parameters,
                "passes": c.passes,
                "lower_bound": c.lower_bound,
                **c.criteria(weight),
                "score": score and score[0],
                "score_error": score and score[1],
                "behind": behind[0],
                "behind_error": behind[1],
                "state": c.state,
                "converged": c.converged,
            }
        )
    return tuple(rows)


def chosen(table: Sequence[Row], tol: float = 0.0) -> dict[str, Row]:
    """What each rule takes of the candidates that were fitted to the end: their covariance types and K.

    One standard error: of those no further behind the best than the paired standard error, the one of the fewest
    parameters. Gaps below `tol` (nats per row) count as none: fits that end where less than that is left to gain do not
    tell them.
    """
    fitted = [row for row in table if row["state"] == FITTED]
    close = [row for row in fitted if row["behind"] <= max(row["behind_error"], tol)]
    found = {"one_standard_error": min(close, key=lambda row: (row["parameters"], -row["score"]))}
    found |= {name: min(fitted, key=lambda row: row[name]) for name in ("bic", "icl", "aic")}
    return {name: {key: found[name][key] for key in ("covariance_type", "components")} for name in CHOICES}


def named(row: Row) -> str:
    return f"{row['covariance_type']} K={row['components']}"


def explained(table: Sequence[Row], choices: dict[str, Row], weight: float) -> str:
    """One sentence on what is chosen, why the other rules choose otherwise if they do; one more where K may be too
    small.
    """
    own, others = choices["one_standard_error"], ("bic", "icl", "aic")
    agree = [name.upper() for name in others if choices[name] == own]
    differ = [name for name in others if choices[name] != own]
    told = f"Held-out rows choose {named(own)}, the smallest within one standard error of the best"
    if agree:
        names = " and ".join(filter(None, (", ".join(agree[:-1]), agree[-1])))
        told += f", as {names} {'does' if len(agree) == 1 else 'do'}"
    sizes = {named(row): row["parameters"] for row in table}
    for name in differ:
        other = named(choices[name])
        why = WHY[name, sizes[other] > sizes[named(own)]].format(rows=weight)
        told += f"; {name.upper()} takes {other}: {why}"
    kinds = [row for row in table if row["covariance_type"] == own["covariance_type"]]
    most = max(row["components"] for row in kinds)
    edge = len(kinds) > 1 and own["components"] == most
    return f"{told}.{f' No K above {most} was tried: try more components.' if edge else ''}"
