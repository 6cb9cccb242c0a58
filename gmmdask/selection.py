"""select: how many components, and of which covariance type; many candidates that share passes over the data."""

import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any

from gmmdask.algorithms import Batch, Guarded, Squarem
from gmmdask.candidates import Contest
from gmmdask.covariance import FAMILIES
from gmmdask.criteria import Row
from gmmdask.estimator import GaussianMixture
from gmmdask.execution import open_executor
from gmmdask.job import Job
from gmmdask.outcome import Callback, Outcome
from gmmdask.parameters import DEFAULT_REG_COVAR
from gmmdask.place import Place
from gmmdask.settings import Settings
from gmmdask.sources import Source, open_source
from gmmdask.sources.weights import weighted
from gmmdask.start import Start
from gmmdask.verbose import teller

MOST = 1000  # numbers of components, each with a start of its own
TOL = 1e-4  # nats per row: candidates are told apart by less than what a fit alone has to gain when it ends
SHOWN = (
    "covariance_type",
    "components",
    "parameters",
    "passes",
    "score",
    "behind",
    "behind_error",
    "bic",
    "icl",
    "aic",
)


@dataclass(frozen=True, eq=False)
class Selection:
    """What `select` has found.

    Attributes
    ----------
    table_ : a dict a candidate, in the order that was asked for: covariance_type, components, parameters, passes,
        lower_bound, bic, aic, icl, score, score_error, behind, behind_error, state, converged. `score` is the mean log
        density of the held-out rows, nats per row; `behind` how far it is below that of the best, and its error that of
        the paired difference. BIC, AIC, ICL and the lower bound, of all rows, are None of what was dropped, all of what
        could not start. Lower bounds have the log density of a prior in them; BIC, AIC and ICL go by the log likelihood
        alone. Where values are missing, all of these are of what is there.
    choices_ : what "one_standard_error", "bic", "icl" and "aic" take: covariance_type and components.
    best_ : a fitted GaussianMixture, the choice of one standard error, its components by descending weight.
    models_ : those of all candidates that were fitted to the end, by (covariance_type, K), if they were asked for.
    outcome_ : why the passes of the best ended.
    sentence_ : what is chosen, and why other rules choose otherwise if they do.
    """

    table_: tuple[Row, ...]
    choices_: dict[str, Row]
    best_: GaussianMixture
    outcome_: Outcome
    sentence_: str
    models_: dict[tuple[str, int], GaussianMixture] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [(*SHOWN, "state"), *((*(written(row[key]) for key in SHOWN), row["state"]) for row in self.table_)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*table, "", self.sentence_])


def written(value: Any) -> str:
    """A cell of the table."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.5f}"


def select(
    data: Any,
    components: int | Iterable[int] = range(2, 41),
    covariance_types: str | Iterable[str] = ("full",),
    *,
    n_init: int = 3,
    tol: float = TOL,
    reg_covar: float = DEFAULT_REG_COVAR,
    max_iter: int = 100,
    init_params: str = "kmeans",
    prior: str | None = None,
    weight_concentration: float = 1.0,
    refine: str | None = None,
    noise: bool = False,
    missing: str = "error",
    random_state: Any = None,
    sample_weight: Any = None,
    scheduler: Any = None,
    memory_limit: int | str | None = None,
    cache: str = "auto",
    sample_rows: int | None = None,
    accelerate: str | None = "auto",
    checkpoint: str | Path | Place | None = None,
    resume: bool | str = False,
    callbacks: Sequence[Callback] = (),
    keep_models: bool = False,
) -> Selection:
    """Fits mixtures of every K and covariance type side by side, and says which to take.

    All start on one sample of the rows, and share every pass over the data, so that choosing among forty takes about as
    many passes as fitting one. Held-out rows judge them: a part of the sample that no pass sees, 25,000 rows or more
    but a quarter of all at most; a third where the sample is all rows. Candidates more than three standard errors of
    the paired difference behind the best drop out, at first and after every pass. Where the sample is all rows, those
    that are left are fitted to all of them in the end. Parameters that are not explained here are those of
    `GaussianMixture`, and models become what they would alone.

    Parameters
    ----------
    data : as `GaussianMixture.fit` takes it; so are `sample_weight`, `scheduler` and `resume`.
    components, covariance_types : the candidates are all pairs of these.
    n_init : starts of each candidate, on the sample.
    tol : passes of a candidate end where less is predicted to be gained, and smaller gaps of scores count as none;
        nats per row.
    refine : "split-merge" moves components of each candidate, on the sample, before the passes.
    noise, missing : a uniform component, or values that are missing; not both.
    accelerate : "auto" and "squarem" extrapolate the steps of EM, None does not.
    memory_limit : what all candidates together may take; refused, with the limit that would do, if they take more.
    keep_models : whether `models_` has all candidates that were fitted to the end.

    Raises
    ------
    ValueError
        For unusable data or parameters, or if no candidate can be fitted.
    gmmdask.execution.ClusterError, OSError
        For trouble with a cluster or storage; the checkpoint is kept.
    """
    like = GaussianMixture(
        stop="predicted",
        tol=tol,
        reg_covar=reg_covar,
        max_iter=max_iter,
        n_init=n_init,
        init_params=init_params,
        random_state=random_state,
        accelerate=accelerate,
        checkpoint=checkpoint,
        callbacks=callbacks,
        memory_limit=memory_limit,
        cache=cache,
        sample_rows=sample_rows,
        prior=prior,
        weight_concentration=weight_concentration,
        refine=refine,
        noise=noise,
        missing=missing,
    )
    source, pairs = weighted(open_source(data), sample_weight), pairs_of(components, covariance_types)
    return selected(like, source, pairs, scheduler, resume, keep_models)


def pairs_of(components: int | Iterable[int], covariance_types: str | Iterable[str]) -> list[tuple[str, int]]:
    """Covariance types and numbers of components of all candidates; ValueError if they are none."""
    kinds = [covariance_types] if isinstance(covariance_types, str) else list(covariance_types)
    given = components if isinstance(components, Iterable) else (components,)
    counts = list(islice(given, MOST + 1))
    if len(counts) > MOST:
        raise ValueError(f"components: more than {MOST:,} of them. Choose fewer, such as range(2, 41).")
    unknown = [kind for kind in kinds if kind not in FAMILIES]
    if unknown or not kinds:
        raise ValueError(f"covariance_types={kinds!r}: expected one or more of {', '.join(FAMILIES)}.")
    if not counts or any(not isinstance(k, Integral) or isinstance(k, bool) or k < 1 for k in counts):
        raise ValueError(f"components={counts!r}: expected whole numbers from 1 on, such as range(2, 41).")
    return [(kind, k) for kind in dict.fromkeys(kinds) for k in sorted({int(k) for k in counts})]


def selected(
    like: GaussianMixture,
    source: Source,
    pairs: Sequence[tuple[str, int]],
    scheduler: Any = None,
    resume: bool | str = False,
    keep_models: bool = False,
) -> Selection:
    """Of candidates that have the parameters of one estimator, but for covariance type and number of components."""
    if resume and like.checkpoint is None:
        raise ValueError("resume=True needs the checkpoint to go on from: set checkpoint=.")
    settings = settings_of(source, pairs, like)
    with open_executor(scheduler) as executor:
        job = Job(source, settings, executor, teller(like.callbacks, 0, 1), like.checkpoint, resume)
        contest = Contest(job, float(like.tol))
        contest.run()
        best, outcome = model_of(contest, contest.choices["one_standard_error"], source, like)
        fitted = [row for row in contest.table if row["state"] == "fitted"] if keep_models else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the best has told what is to be told
            models = {key_of(row): model_of(contest, row, source, like)[0] for row in fitted}
    return Selection(contest.table, contest.choices, best, outcome, contest.sentence, models)


def settings_of(source: Source, pairs: Sequence[tuple[str, int]], like: GaussianMixture) -> Settings:
    """What is asked of the job: the candidates, and that one mixture of them which has the most parameters."""
    starts = tuple(Start(kind, k, like.init_params) for kind, k in pairs)
    if starts[0].by_passes:
        raise ValueError(
            f"init_params={starts[0].method!r} takes passes over all rows for each candidate. Choose one that starts "
            "on the sample, such as 'kmeans'."
        )
    largest = max(starts, key=lambda start: start.n_parameters(source.d))
    model = candidate(like, largest.covariance_type, largest.n_components)
    model._validate_params()
    em = Batch(float(like.tol), int(like.max_iter), "predicted")
    algorithm = Guarded(em if like.accelerate is None else Squarem(em))
    return replace(model.settings(source), algorithm=algorithm, candidates=starts)


def candidate(like: GaussianMixture, kind: str, k: int) -> GaussianMixture:
    """An estimator that is not fitted, like another that is not."""
    return copy(like).set_params(n_components=k, covariance_type=kind)


def model_of(contest: Contest, row: Row, source: Source, like: GaussianMixture) -> tuple[GaussianMixture, Outcome]:
    """The fitted estimator of a candidate, and why its passes ended."""
    kind, k = key_of(row)
    fitted, model = contest.fitted(kind, k), candidate(like, kind, k)
    model._set_names(source.feature_names)
    return model._accept(fitted), fitted.outcome


def key_of(row: Row) -> tuple[str, int]:
    return row["covariance_type"], row["components"]
