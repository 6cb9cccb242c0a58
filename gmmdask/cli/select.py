"""gmmdask select: data -> which K and covariance type, and the model of it."""

from typing import Any

import click

from gmmdask.cli._fit_options import (
    default,
    how_to_end,
    missing,
    noise,
    prior,
    refine,
    weight_concentration,
    what_to_take,
    what_to_write,
)
from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import (
    COVARIANCE,
    how_to_read,
    how_to_start,
    how_to_weigh,
    log_format,
    open_weighted,
    open_where,
    where_to_run,
)

MOST = 1000  # as `select` has it, which takes a second to load


class Counts(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers and ranges between commas: 2:40 is 2 to 40."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found: list[int] = []
        for part in value.split(","):
            first, colon, last = part.strip().partition(":")
            if not first.isdecimal() or (colon and not last.isdecimal()):
                self.fail(f"{value!r}: expected numbers such as 2,3,5, or a range such as 2:40.", param, ctx)
            more = range(int(first), int(last or first) + 1)
            if len(more) > MOST:
                self.fail(f"{value!r}: {len(more):,} numbers, expected {MOST:,} at most.", param, ctx)
            found += more
        if not found or min(found) < 1:
            self.fail(f"{value!r} names no numbers from 1 on.", param, ctx)
        return tuple(sorted(set(found)))


class Covariances(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Covariance types between commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(COVARIANCE.convert(name.strip(), param, ctx) for name in names)


@click.command("select")
@job_file
@click.argument("data")
@click.option("--components", type=Counts(), default="2:40", show_default=True, help="Such as 2:40, or 2,3,5,8:10.")
@click.option("--covariance", type=Covariances(), default="full", show_default=True, help="Such as full,diag.")
@default("tol", 1e-4)
@how_to_end
@default("n_init", 3)
@how_to_start
@refine
@prior
@weight_concentration
@missing
@noise
@what_to_write
@click.option("--table", type=click.Path(dir_okay=False), help="JSON file to write the table to.")
@what_to_take
@how_to_read
@how_to_weigh
@where_to_run
@log_format
def command(data: str, output: str, table: str | None, **options: Any) -> None:
    """Fit mixtures of many K to DATA side by side, print how they compare, and write the one to take."""
    import json
    import warnings

    from gmmdask.cli import NotConverged
    from gmmdask.cli._fitting import check_output, interval, parameters, planned, resumes
    from gmmdask.cli._progress import Reporter, once_a_pass
    from gmmdask.cli._tables import candidates, components, console, show
    from gmmdask.estimator import GaussianMixture
    from gmmdask.model_file import Model, save_model
    from gmmdask.place import Place
    from gmmdask.selection import pairs_of, selected, settings_of

    form, resume = options["log_format"], resumes(options, output)
    source = open_weighted(data, options)
    pairs = pairs_of(options["components"], options["covariance"])
    with Reporter(form) as reporter, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say are events, told by the reporter
        told = reporter if form == "json" else once_a_pass(reporter)
        like = GaussianMixture(stop="predicted", **parameters(options, told))
        settings = settings_of(source, pairs, like)
        own = options["overwrite"] or (bool(resume) and is_own(output, settings, source))
        outputs = [output] if table is None else [output, table]
        check_output(outputs, own, resume, options["checkpoint"], source, lambda _: settings)
        where = open_where(options)
        if options["dry_run"]:
            show(planned(source, settings, where), form)
            return
        with interval(options["checkpoint_every"]):
            found = selected(like, source, pairs, where, resume)
    best = found.best_
    provenance = {**best.provenance_, "run_id": reporter.run_id}
    save_model(output, Model(best.mixture_, provenance, feature_names=source.feature_names))
    result = {"table": list(found.table_), "choices": found.choices_, "sentence": found.sentence_}
    if table is not None:
        Place(table).write([json.dumps(result, indent=1, allow_nan=False).encode()])
    summary = {"model": output, "choice": found.sentence_, **reporter.summary(best)}
    if form == "json":
        show({**summary, **result}, form)
    else:
        console().print(candidates(found.table_, found.choices_))
        show(summary, form)
        console().print(components(best.mixture_))
    if options["require_convergence"] and not best.converged_:
        raise NotConverged(best.outcome_.sentence)


def is_own(output: str, settings: Any, source: Any) -> bool:
    """Whether the output was selected from the same data with the same settings: what a resumed run may replace."""
    from gmmdask.container import FileError
    from gmmdask.model_file import load_model
    from gmmdask.record import is_of

    try:
        provenance = load_model(output).provenance
    except FileError:
        return False
    of = provenance.get("selection", {}).get("settings", {})
    return is_of({"data": provenance.get("data"), "settings": of}, source, settings)
