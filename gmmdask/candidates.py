"""Many candidates for one model: starts on the sample, shared passes, held-out rows that judge, and the table of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from gmmdask.algorithms import Beginning
from gmmdask.ambiguity import Ambiguity
from gmmdask.begin import Opening
from gmmdask.competition import best_start
from gmmdask.covariance import FAMILIES, IllDefinedCovariance
from gmmdask.criteria import FITTED, Candidate, chosen, explained, tabulated
from gmmdask.degenerate import distinct_rows, without_spread
from gmmdask.degenerate import told as too_few
from gmmdask.ending import Fitted
from gmmdask.estep import EStep, ESteps
from gmmdask.fit import advance
from gmmdask.frame import Frame
from gmmdask.initialise import thinning
from gmmdask.job import Job
from gmmdask.judging import Apart, Judges, has_no_start
from gmmdask.merging import merged
from gmmdask.mixture import Mixture
from gmmdask.moments import Moments
from gmmdask.outcome import DirectionsWithoutSpread, Event, FewDistinctRows, Outcome, Reason, RunEnded, StartBegun
from gmmdask.pilot import FirstLook
from gmmdask.planning import set_aside
from gmmdask.refine import refined
from gmmdask.repair import EmptyComponent
from gmmdask.run import Run
from gmmdask.sampling import Except
from gmmdask.selfcheck import check
from gmmdask.sources import DataError
from gmmdask.start import Start
from gmmdask.stats import Stats
from gmmdask.task import Data

START_FACTOR = 100  # rows of the sample a parameter that starts are fitted to: what a fit alone takes
AGAIN = "-all"  # what the name of a run ends with that is fitted again, to all rows

Runs = tuple[Run, ...]


def name_of(start: Start) -> str:
    return f"{start.covariance_type}-{start.n_components}"


class Contest:
    """Candidates under way, as runs of one job whose settings name them.

    Every candidate starts on the sample. Part of that is set aside: it judges, and no pass sees it. Those that are more
    than three standard errors of the paired difference behind the best drop out, at first and after every pass; the
    others share the passes. Where the sample is all rows, those that are left are fitted again, to all of them. Then
    `table`, `choices` and `sentence` say what is known.

    Parameters
    ----------
    tol : gaps of scores below it (nats per row) are none.
    """

    def __init__(self, job: Job, tol: float) -> None:
        self.job, self.settings, self.tol, self.gaussians = job, job.settings, tol, dict[str, Mixture | None]()
        self.most = max(start.n_components for start in self.settings.candidates)

    def run(self) -> None:
        """Goes through all stages that are not behind yet."""
        job = self.job
        with job.under_way():
            everything, look = job.looked_at()
            apart, self.look = self._apart(look), look
            self.judges = Judges(apart, job.executor.beside, self.tol, job.emit)
            self.features = self._lacks(look)
            if look.whole:
                everything = job.beside(look.sample, look.sample_weights)
                rest = job.beside(apart.fit, apart.fit_weights)
            else:
                rest = replace(everything, view=partial(Except, apart.numbers))
            runs = self._starts()
            if not any(run.state.laps for run in runs):
                runs = self.judges.judged(runs, self._hopes(apart.moments.weight))
            runs = self._passes(runs, rest, apart.moments, self.judges.judged)
            self.final = {run.name: run for run in runs if is_fitted(run)}
            if not self.final:
                first = next((run for run in runs if ending(run).reason is Reason.FAILED), runs[0])
                raise ValueError(f"No candidate could be fitted. {first.name}: {ending(first).sentence}")
            if look.whole:
                self.final = self._again(everything)
            job.check_unchanged(everything)
            self._conclude(runs, everything)

    def _apart(self, look: FirstLook) -> Apart:
        rows, name = len(look.sample), self.job.source.name
        judges = set_aside(self.job.source, self.settings, rows, look.whole)
        if judges < 2 or rows - judges < self.most:
            raise DataError(
                f"{name}: of {rows} rows with a weight, {judges} are held out to judge the candidates, and "
                f"{rows - judges} are left to start {self.most} components. Ask for fewer components, or fit one "
                "mixture without comparing."
            )
        return Apart.of(look, self.job.progress.seed, judges, self.settings.missing == "em")

    def _lacks(self, look: FirstLook) -> tuple[int, ...]:
        """Features without spread; they, and too few different rows, are told as events."""
        settings, covariance, features = self.settings, look.moments.covariance, set[int]()
        for kind in dict.fromkeys(start.covariance_type for start in settings.candidates):
            one = replace(settings, start=replace(settings.start, covariance_type=kind))
            features.update(without_spread(self._frame(kind), covariance, one, self.job.source.name))
        if features:
            self.job.emit(DirectionsWithoutSpread("fit", tuple(sorted(features))))
        self.distinct = distinct_rows(look.sample, max(2, self.most))
        if self.distinct is not None:
            self.job.emit(FewDistinctRows("fit", self.distinct, self.most))
        return tuple(sorted(features))

    def _frame(self, covariance_type: str) -> Frame:
        return self.job.frame(FAMILIES[covariance_type], self.look.moments)

    # --- starts ------------------------------------------------------------------------------------------------

    def _starts(self) -> Runs:
        """A run a candidate, begun where its best start on the sample has led; each is saved once it is found.

        The most components come first: every other candidate also starts from the next larger, merged.
        """
        job, larger = self.job, dict[str, Run]()
        order = sorted(self.settings.candidates, key=lambda start: -start.n_components)
        for number, start in enumerate(order, 1):
            kind, known = start.covariance_type, {run.name: run for run in job.progress.runs}
            run = known.get(name_of(start))
            if run is None:
                job.emit(StartBegun(name_of(start), number, len(order)))
                run = self._started(start, larger.get(kind))
                self._keep((run,))
                job.save()
            if not has_no_start(run):
                larger[kind] = run
        known = {run.name: run for run in job.progress.runs}
        return tuple(known[name_of(start)] for start in self.settings.candidates)

    def _keep(self, runs: Runs) -> None:
        """Puts runs in the place of those of their names."""
        kept = {run.name: run for run in (*self.job.progress.runs, *runs)}
        self.job.progress = replace(self.job.progress, runs=tuple(kept.values()))

    def _started(self, start: Start, larger: Run | None) -> Run:
        opening, name = self._opening(start), name_of(start)
        algorithm, beginning = self.settings.algorithm, Beginning(self.job.progress.seed)
        ground = opening.ground().thinned(start, START_FACTOR)  # as many rows as a fit alone would take
        try:
            more = () if larger is None else (merged(larger.state.mixture, start.n_components, larger.prior, ground),)
            mixture = best_start(start, self.settings.n_init, opening.seed, ground, opening.emit, least=1, more=more)
            if self.settings.refine:
                mixture = refined(mixture, start, ground, opening.seed, opening.emit)
            state = algorithm.start(mixture, beginning)
        except (IllDefinedCovariance, EmptyComponent) as error:
            outcome = Outcome(Reason.FAILED, str(error), None)
            state = replace(algorithm.start(stand_in(start, opening.frame.d), beginning), outcome=outcome)
            self.job.emit(RunEnded(name, outcome))
        return Run(name, algorithm, state, opening.frame, opening.prior, self.settings.fast)

    def _opening(self, start: Start) -> Opening:
        """All that the start of one candidate depends on.

        It knows no rows that judge candidates: the more starts differ, the more the best of them by those rows would
        owe to chance.
        """
        settings, job, apart = replace(self.settings, start=start, candidates=()), self.job, self.judges.apart
        look = replace(self.look, sample=apart.fit, sample_weights=apart.fit_weights, whole=True)
        frame, name = self._frame(start.covariance_type), name_of(start)

        def emit(event: Event) -> None:
            job.emit(replace(event, run=name))

        opening = Opening(settings, look, frame, job.progress.seed, job.executor.beside, emit)
        if frame.digest not in self.gaussians:
            self.gaussians[frame.digest] = opening.expecting()
        return replace(opening, gaussian=self.gaussians[frame.digest])

    def _hopes(self, weight: float) -> dict[str, tuple[float, float]]:
        """What passes over rows of this weight should gain, in nats per row, and its standard deviation.

        A fit of p parameters to m rows loses χ²_p/2m on the average over other rows (Akaike 1974).
        """
        found, m, d = {}, len(self.judges.apart.fit), self.look.moments.mean.size
        for start in self.settings.candidates:
            p = start.n_parameters(d)
            rows = ceil(m / thinning(m, START_FACTOR, p))
            fewer = max(0.0, 1 / rows - 1 / weight)
            found[name_of(start)] = p / 2 * fewer, (p / 2) ** 0.5 * fewer
        return found

    # --- passes ------------------------------------------------------------------------------------------------

    def _passes(self, runs: Runs, data: Data, moments: Moments, judge: Callable[[Runs], Runs]) -> Runs:
        def save(runs: Runs) -> None:
            self._keep(runs)
            self.job.save()

        save(runs)
        runs = advance(runs, data, self.job.emit, self.job.expected(moments), save, judge=judge)
        self.job.save(now=True)
        return runs

    def _again(self, everything: Data) -> dict[str, Run]:
        """Those that are fitted, fitted to all rows from where they are."""
        begun = {run.name: run for run in self.job.progress.runs}
        again = []
        for name, run in self.final.items():
            state = run.algorithm.start(run.state.mixture, Beginning(self.job.progress.seed))
            again.append(begun.get(name + AGAIN) or replace(run, name=name + AGAIN, state=state))
        runs = self._passes(tuple(again), everything, self.look.moments, lambda runs: runs)
        fitted = {run.name.removesuffix(AGAIN): run for run in runs if is_fitted(run)}
        return {**self.final, **fitted}

    # --- the end -----------------------------------------------------------------------------------------------

    def _conclude(self, runs: Runs, everything: Data) -> None:
        """One pass more over all rows, at what all have become; then the table, and what each rule takes."""
        moments, final = self.look.moments, self.final
        steps = tuple((run.frame, EStep.of(run.state.mixture, run.fast)) for run in final.values())
        work = Ambiguity if self.settings.missing == "em" else ESteps
        items = everything.sums(work(steps, everything.plan.block_rows)).items
        for run, stats in zip(final.values(), items, strict=True):
            check(stats, run.frame, self.job.expected(moments), self.job.source.name)
        found = dict(zip(final, items, strict=True))
        starts = zip(runs, self.settings.candidates, strict=True)
        known = [self._known(run, start, found.get(run.name)) for run, start in starts]
        weight = moments.weight / self.look.unit
        self.table = tabulated(known, self.judges.weights, weight)
        self.choices = chosen(self.table, self.tol)
        self.sentence = explained(self.table, self.choices, weight)

    def _known(self, run: Run, start: Start, stats: Stats | None) -> Candidate:
        final, reason, words = self.final.get(run.name, run), ending(run).reason, ending(run).sentence
        state = {Reason.FAILED: f"failed: {words}", Reason.DROPPED: words.partition(":")[0]}.get(reason, FITTED)
        known = Candidate(
            start.covariance_type,
            start.n_components,
            start.n_parameters(run.frame.d) + self.settings.noise,
            run.state.laps + (final.state.laps if final is not run else 0),
            state,
            ending(final).converged,
            self.judges.line(run),
        )
        if stats is None:
            return known
        shift, unit = run.frame.log_det, self.look.unit
        bound = (stats.log_likelihood + final.prior.log_density(final.state.mixture)) / stats.weight + shift
        log_likelihood = (stats.log_likelihood + stats.weight * shift) / unit
        return replace(known, lower_bound=bound, log_likelihood=log_likelihood, entropy=stats.entropy / unit)

    def fitted(self, covariance_type: str, n_components: int) -> Fitted:
        """The model of a candidate that was fitted to the end, heaviest component first, with what was selected."""
        name, few = f"{covariance_type}-{n_components}", ""
        stages = tuple(stage for stage in self.job.progress.stages if stage.get("run", name) == name)
        if self.distinct is not None and self.distinct < max(2, n_components):
            few = too_few(self.distinct, n_components, len(self.look.sample), self.job.source.n)
        ends = [end for stage in stages for end in stage.get("ends", ())]
        found = self.job.ending.fitted(self.final[name], stages, ends, self.features, few)
        own = {**found.provenance["settings"], "covariance_type": covariance_type, "n_components": n_components}
        del own["candidates"]
        provenance = {**found.provenance, "settings": own, "selection": self.describe()}
        return replace(found, mixture=found.mixture.by_weight(), provenance=provenance)

    def describe(self) -> dict[str, Any]:
        """As JSON values: the table, what each rule takes, why, and the settings of it all."""
        told = {"table": list(self.table), "choices": self.choices, "sentence": self.sentence}
        return {**told, "settings": self.job.progress.settings}


def ending(run: Run) -> Outcome:
    assert run.state.outcome is not None
    return run.state.outcome


def is_fitted(run: Run) -> bool:
    return ending(run).reason not in (Reason.DROPPED, Reason.FAILED)


def stand_in(start: Start, d: int) -> Mixture:
    """K times the standard normal distribution: what stands for the mixture of a run without a start."""
    k, family = start.n_components, FAMILIES[start.covariance_type]
    return Mixture(start.covariance_type, np.full(k, 1 / k), np.zeros((k, d)), family.isotropic(1.0, k, d))
