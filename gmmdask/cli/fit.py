"""gmmdask fit: data -> model."""

from typing import Any

import click

from gmmdask.cli._fit_options import (
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
    ALGORITHM,
    COVARIANCE,
    by_gradients,
    chosen,
    how_to_read,
    how_to_start,
    how_to_weigh,
    log_format,
    open_weighted,
    open_where,
    where_to_run,
)


@click.command("fit")
@job_file
@click.argument("data")
@click.option("-k", "--components", type=click.IntRange(1), required=True, help="Number of components.")
@click.option("--covariance", default="full", type=COVARIANCE, show_default=True, help="full, tied, diag or spherical.")
@click.option("--algorithm", default="em", type=ALGORITHM, show_default=True)
@by_gradients
@how_to_end
@click.option("--stop", default="predicted", show_default=True, type=click.Choice(["gain", "predicted"]))
@how_to_start
@refine
@prior
@weight_concentration
@missing
@click.option(
    "--empty",
    default="reseed",
    show_default=True,
    type=click.Choice(["reseed", "drop", "error"]),
    help="What becomes of components that hold too few rows.",
)
@noise
@what_to_write
@what_to_take
@how_to_read
@how_to_weigh
@where_to_run
@log_format
def command(data: str, output: str, **options: Any) -> None:
    """Fit a Gaussian mixture to DATA, a Zarr array, .npy or Parquet files, and write the model."""
    import warnings

    from gmmdask.cli import NotConverged
    from gmmdask.cli._fitting import check_output, interval, planned, resumes
    from gmmdask.cli._progress import Reporter
    from gmmdask.cli._tables import components, console, show
    from gmmdask.model_file import Model, save_model

    resume = resumes(options, output)
    source = open_weighted(data, options)
    with Reporter(options["log_format"]) as reporter, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say are events, told by the reporter
        mixture = estimator(options, reporter)
        own = options["overwrite"] or (bool(resume) and is_own(output, mixture, source))
        check_output([output], own, resume, options["checkpoint"], source, mixture.settings)
        where = open_where(options)
        if options["dry_run"]:
            show(planned(source, mixture.settings(source), where), options["log_format"])
            return
        with interval(options["checkpoint_every"]):
            mixture.fit(source, scheduler=where, resume=resume)
    fitted = mixture.mixture_.by_weight()
    provenance = {**mixture.provenance_, "run_id": reporter.run_id}
    save_model(output, Model(fitted, provenance, feature_names=source.feature_names))
    show({"model": output, **reporter.summary(mixture)}, options["log_format"])
    if options["log_format"] != "json":
        console().print(components(fitted, source.feature_names))
    if options["require_convergence"] and not mixture.converged_:
        raise NotConverged(mixture.outcome_.sentence)


def estimator(options: dict[str, Any], reporter: Any) -> Any:
    """The estimator that the options describe."""
    from gmmdask.cli._fitting import parameters
    from gmmdask.estimator import GaussianMixture

    ends = {"tol": options["tol"], "max_iter": options["max_iter"]}
    return GaussianMixture(
        options["components"],
        covariance_type=options["covariance"],
        algorithm=chosen(options["algorithm"], options["optimizer"], options["learning_rate"], ends),
        stop=options["stop"],
        empty=options["empty"],
        **parameters(options, reporter),
    )


def is_own(output: str, mixture: Any, source: Any) -> bool:
    """Whether the output is a model of the same data and settings: what a resumed fit may replace."""
    from gmmdask.container import FileError
    from gmmdask.model_file import load_model

    try:
        return bool(mixture.made(load_model(output).provenance, source))
    except FileError:
        return False
