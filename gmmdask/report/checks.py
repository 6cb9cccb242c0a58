"""The checks of a fitted mixture itself, alone and against rows."""

from collections.abc import Callable, Sequence

from gmmdask.quantiles import Quantiles
from gmmdask.report import gaps
from gmmdask.report.components import Component
from gmmdask.report.examine import UNLIKELY
from gmmdask.report.findings import Facts, Finding, Use, Verdict, convergence, forced, restarts
from gmmdask.report.words import components, count, exact, joined, number, percent, sentence

DRIFT = 0.05  # nats per row between scores of training and other rows that mean something
FEW_ROWS = 10  # rows a parameter of a component
COLLAPSED = 3.0  # times reg_covar: a variance below is one that reg_covar has made
THIN = 1e-8  # of a feature's variance
OVERLAPPING, UNCERTAIN = 0.9, 0.7  # an overlap above, and a mean probability of labels below, ask for care
OFF = 0.1  # of a component's rows, where they should not be, that show that it is no Gaussian
TOO_UNLIKELY = 2.0  # times as many unlikely rows as the mixture itself has
MISFIT = 0.25  # of the rows, if unlikely: a model of something else
MORE = "Give the report more rows: gmmdask report MODEL DATA."
FEW = 100  # rows that tell nothing of shapes or scores
FEW_COMPLETE = 1_000  # rows among which unlikely ones are counted, where others lack values
FEWER = "Log densities of rows that lack values do not compare with those of whole rows."


def findings(facts: Facts) -> list[Finding]:
    """All that can be made, in the order in which a reader asks."""
    return [found for check in CHECKS if (found := check(facts)) is not None]


def collapse(facts: Facts) -> Finding:
    """Whether covariances have come to be nearly singular."""
    name, reg = "Has a component collapsed?", float(facts.settings.get("reg_covar") or 0.0)
    held = [c for c in facts.components if reg and c.narrowest <= COLLAPSED * reg]
    thin = [c for c in facts.components if c not in held and c.standardised < THIN]
    least = min(facts.components, key=lambda c: c.standardised)
    narrowest = (
        f"The narrowest direction is one of component {least.number}: with every feature divided by its standard "
        f"deviation among all rows, the standard deviation there is {number(least.narrow, 2)}."
    )
    if not (held or thin):
        return Finding(name, Verdict.FINE, f"No. {narrowest}")
    told = []
    if held:
        told.append(
            f"{of_weight(held)} {has(held)} a direction in which hardly any variance is left but what "
            f"reg_covar = {number(reg, 2)} adds"
        )
    if thin:
        told.append(f"{of_weight(thin)} {has(thin)} a direction without variance")
    found = (
        f"Yes: {joined(told)}. Such a component has hardly any rows, or rows with equal values in some feature "
        "(clipped, rounded or repeated ones, often), or one feature follows from others. The density is as high there "
        f"as the settings allow, so scores, BIC and held-out scores say little of such a model. {narrowest}"
    )
    todo = (
        "Leave out clipped or repeated rows and features that follow from others; or fit with --prior mclust, with "
        "fewer components, or with a larger --reg-covar."
    )
    return Finding(name, Verdict.TROUBLE, found, todo, "covariances have collapsed")


def of_weight(some: Sequence[Component]) -> str:
    """As "components 3 and 5 (12 % of the weight)"."""
    return f"{components([c.number for c in some])} ({percent(sum(c.weight for c in some))} of the weight)"


def few(rows: int) -> str:
    return f"{count(rows, 'row')} {'was' if rows == 1 else 'were'} looked at, which is too few to tell."


def which(some: Sequence[Component], facts: Facts) -> str:
    """As "components 3 and 5", or "all components"."""
    if len(some) == len(facts.components) > 1:
        return "all components"
    return f"{components([c.number for c in some], most=4)} ({percent(sum(c.weight for c in some))} of the weight)"


def has(some: Sequence[Component]) -> str:
    return "has" if len(some) == 1 else "have"


def masses(facts: Facts) -> Finding | None:
    """Whether each component has rows enough for its parameters."""
    if facts.rows is None:
        return None
    name, least = "Does every component have enough rows?", min(facts.components, key=lambda c: c.weight)
    rows, parameters = least.rows or 0.0, least.parameters
    found = (
        f"The lightest, component {least.number}, has {count(rows, 'row')}, for about {count(parameters, 'parameter')} "
        "of its own."
    )
    few = [c for c in facts.components if (c.rows or 0.0) < FEW_ROWS * c.parameters]
    if not few:
        return Finding(name, Verdict.FINE, f"Yes. {found}", uses=(Use.GROUPS,))
    words = f"No: {of_weight(few)} {has(few)} fewer than {FEW_ROWS} rows a parameter, too few to know a shape. {found}"
    verdict = Verdict.TROUBLE if rows < parameters else Verdict.CARE
    todo = "Ask for fewer components or a simpler --covariance, or fit to more rows."
    reason = f"{which(few, facts)} {has(few)} few rows"
    return Finding(name, verdict, words, todo, reason, (Use.GROUPS,))


def overlap(facts: Facts) -> Finding | None:
    """Whether components can be told apart."""
    if facts.mixture.n_components == 1:
        return None
    name, told = "Can the components be told apart?", []
    close = [c for c in facts.components if c.nearest is not None and c.overlap > OVERLAPPING]
    if close:
        pairs = sorted({tuple(sorted((c.number, c.nearest or 0))) for c in close})
        told.append(f"Nearly the same are {joined([f'{a} and {b}' for a, b in pairs], 4)}.")
    unsure = [c.number for c in facts.components if c.certainty is not None and c.certainty < UNCERTAIN]
    if unsure:
        told.append(f"Rows that are labelled with {components(unsure)} could nearly as well belong to others.")
    certain, most = "", max(facts.components, key=lambda c: c.overlap)
    if facts.look is not None:
        seen = facts.look.seen
        share = percent(float(seen.posteriors.trace()) / seen.weight)
        certain = f" On the average, a row has {share} of its probability in the component that it is labelled with"
        least = min((c for c in facts.components if c.certainty is not None), key=lambda c: c.certainty or 0.0)
        certain += f"; rows of component {least.number} have least, {percent(least.certainty or 0.0)}."
    if not told:
        found = (
            f"Yes: {components([most.number, most.nearest or 0])} overlap most, by {most.overlap:.2f}; from "
            f"{OVERLAPPING} of 1 on they would be nearly the same.{certain}"
        )
        return Finding(name, Verdict.FINE, found, uses=(Use.GROUPS,))
    todo = (
        "Fewer components might do: compare numbers with gmmdask select. Where labels are uncertain, use probabilities "
        "(gmmdask predict --what proba)."
    )
    words = f"Not all. {' '.join(told)}{certain}"
    return Finding(name, Verdict.CARE, words, todo, "some components can hardly be told apart", (Use.GROUPS,))


def shapes(facts: Facts) -> Finding | None:
    """Whether components are Gaussian, by the distances of their rows."""
    if facts.look is None:
        return None
    name, all_of_them = "Are the components Gaussian?", facts.components
    if facts.look.rows < FEW:
        return Finding(name, Verdict.OPEN, few(facts.look.rows), MORE, "too few rows were looked at")
    off = [c for c in all_of_them if c.gap is not None and c.gap > OFF + 1.6 / max(c.effective or 0.0, 1.0) ** 0.5]
    if not off:
        found = (
            "Yes: rows are as far from the components that they belong to as rows of Gaussians are. No component is "
            f"farther than {percent(OFF)} from Gaussian, and what its number of rows leaves to chance."
        )
        return Finding(name, Verdict.FINE, found)
    worst = max(off, key=lambda c: c.gap or 0.0)
    found = (
        f"Not all: {of_weight(off)} {'is' if len(off) == 1 else 'are'} more than {percent(OFF)} from Gaussian, and "
        f"{worst.number} most, with {percent(worst.gap or 0.0)}: that is by how much the share of its rows within some "
        "distance of its mean differs from a Gaussian's."
    )
    todo = (
        "Take the components as groups, and densities as approximate. Transform features that are still skewed "
        "(logarithm, arcsinh). More components follow such shapes more closely, but only where each has rows enough."
    )
    if gaps.now(facts).any():
        found += (
            " Rows that lack values count with the distance of what they have. Where others tell which values are "
            "missing, that alone may make distances differ."
        )
    reason = f"{which(off, facts)} {'is' if len(off) == 1 else 'are'} not Gaussian"
    return Finding(name, Verdict.CARE, found, todo, reason)


def unlikely(facts: Facts) -> Finding | None:
    """How many rows are less likely than the mixture itself would have them, of those that are complete."""
    name, threshold = "Are more rows unlikely than the model expects?", facts.drawn.threshold(UNLIKELY)
    if facts.look is not None:
        seen, lacking = facts.look.seen, bool(gaps.now(facts).any())
        if lacking and seen.effective(seen.complete * seen.weight) < FEW_COMPLETE:
            found = f"Not known. Only {percent(seen.complete)} of the rows are complete. {FEWER}"
            todo = "Give the report rows of which more are complete, if there are any."
            reason = "hardly any row is complete, so unlikely ones were not counted"
            return Finding(name, Verdict.OPEN, found, todo, reason, (Use.DENSITY,))
        share = seen.unlikely
        whose = f"the {count(facts.look.rows, 'row')} that were looked at"
        if lacking:
            whose = f"the {percent(seen.complete)} of the rows looked at that are complete"
        more = f" {FEWER}" if lacking else ""
    elif "log_densities" in facts.told and not gaps.then(facts).any():
        share, whose, more = Quantiles.told_by(facts.told).below(threshold), "the rows of the fit", ""
    else:
        return None
    found = (
        f"Of rows that are drawn from the model itself, {percent(UNLIKELY)} have a log density below "
        f"{number(threshold)}; of {whose}, {percent(share)} have.{more}"
    )
    if share <= TOO_UNLIKELY * UNLIKELY:
        return Finding(name, Verdict.FINE, f"No. {found}", uses=(Use.DENSITY,))
    if share >= MISFIT:
        todo = "Check that rows and model belong together: features, their order, and their units."
        return Finding(name, Verdict.TROUBLE, f"Yes. {found}", todo, "the model does not describe these rows")
    todo = (
        "Look at such rows (gmmdask predict --outliers 0.01). What is an outlier must be said by quantiles of rows, as "
        "that option does: by the model alone, too many rows would be."
    )
    why = "There are outliers, or tails heavier than a Gaussian's."
    reason = "more rows are unlikely than the model expects"
    return Finding(name, Verdict.CARE, f"Yes. {found} {why}", todo, reason, (Use.DENSITY,))


def scores(facts: Facts) -> Finding:
    """Whether rows are as likely as those of the fit were."""
    name, look, training = "Are these rows as likely as those of the fit?", facts.look, facts.training_score
    uses = (Use.DENSITY,)
    if look is None:
        todo = "Give the report rows: gmmdask report MODEL DATA. Best are rows that the fit has not seen."
        found = "No rows were given to this report, so nothing was compared."
        return Finding(name, Verdict.OPEN, found, todo, "it was compared with no rows")
    if look.rows < FEW:
        return Finding(name, Verdict.OPEN, few(look.rows), MORE, "too few rows were looked at", uses)
    mean, error = look.seen.score, look.seen.score_error
    found = (
        f"The mean log density of {count(look.rows, 'row')} is {exact(mean)} nats per row (standard error "
        f"{number(error, 2)})"
    )
    if training is None:
        words = f"{sentence(found)} What it was in a fit, the model does not say."
        return Finding(name, Verdict.OPEN, words, reason="it says no score of a fit to compare with", uses=uses)
    off, limit = mean - training, max(DRIFT, 4 * error)
    found += f"; in the fit, before its last step, it was {exact(training)}. The difference is {number(off, 2)}."
    if gaps.now(facts).any() or gaps.then(facts).any():
        found += " Rows that lack values count with the density of what they have."
    if look.trained:
        if abs(off) <= DRIFT:
            same = "But these are the rows of the fit, so that says nothing of new ones."
            todo = "Give the report rows that the fit has not seen: gmmdask report MODEL OTHER_DATA."
            reason = "it was compared with the rows of the fit only"
            return Finding(name, Verdict.OPEN, f"Not tested on others. {found} {same}", todo, reason, uses)
        words = f"No. {found} Yet these are the rows of the fit: they have changed, or the model has."
        return Finding(name, Verdict.TROUBLE, words, "Fit again.", "rows or model have changed since the fit")
    if look.trained is None and abs(off) <= DRIFT:
        found += " They are as many as those of the fit, stored otherwise: whether they are the same cannot be told."
        todo = "If they are a copy, give the report rows that the fit has not seen: gmmdask report MODEL OTHER_DATA."
        words = f"Not tested on others, perhaps. {found}"
        return Finding(name, Verdict.OPEN, words, todo, "it may know no rows but those of the fit", uses)
    if abs(moved := gaps.shift(facts)) > limit:
        words = (
            f"Not known. {found} But {gaps.otherwise(facts)}: that alone moves the mean by about {number(moved, 2)}."
        )
        todo = "Give the report rows that lack about as much of each feature as those of the fit."
        reason = "it was compared with rows that lack other values than those of the fit"
        return Finding(name, Verdict.OPEN, words, todo, reason, uses)
    if off >= -limit:
        return Finding(name, Verdict.FINE, f"Yes. {found} These are other rows than those of the fit.", uses=uses)
    words = (
        f"No. {found} These are other rows than those of the fit: they come from elsewhere, or the model has more "
        "components than the rows of the fit could teach."
    )
    todo = "See in the pictures what has moved. Fit again with these rows too."
    return Finding(name, Verdict.CARE, words, todo, "these rows are less likely than those of the fit", uses)


CHECKS: tuple[Callable[[Facts], Finding | None], ...] = (
    convergence,
    restarts,
    collapse,
    masses,
    overlap,
    shapes,
    unlikely,
    scores,
    forced,
)
