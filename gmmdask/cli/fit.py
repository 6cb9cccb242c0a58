"""gmmdask fit: data -> model."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

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
@click.option(
    "--tol", default=1e-3, show_default=True, type=click.FloatRange(0), help="Nats per row; 0 runs --max-iter."
)
@click.option(
    "--accelerate",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "squarem", "none"]),
    help="Extrapolate the steps of em: fewer passes; auto does where the data is larger than the sample.",
)
@click.option("--stop", default="predicted", show_default=True, type=click.Choice(["gain", "predicted"]))
@click.option("--max-iter", default=100, show_default=True, type=click.IntRange(0), help="Laps over all rows.")
@how_to_start
@click.option(
    "--refine",
    type=click.Choice(["none", "split-merge"]),
    default="none",
    show_default=True,
    help="Merge and split components where the score rises by it.",
)
@click.option(
    "--prior", type=click.Choice(["none", "mclust"]), default="none", show_default=True, help="Prevents collapse."
)
@click.option(
    "--weight-concentration",
    type=float,
    default=1.0,
    show_default=True,
    help="Draws weights together, as if every component held this less one rows more; 1 or above.",
)
@click.option(
    "--empty",
    default="reseed",
    show_default=True,
    type=click.Choice(["reseed", "drop", "error"]),
    help="What becomes of components that hold too few rows.",
)
@click.option("--noise", is_flag=True, help="A uniform component beside the others, for outliers; its label is -1.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="Model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--checkpoint", type=click.Path(dir_okay=False), help="File in which the fit saves itself.")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(0),
    help="Least seconds between checkpoints; 0 for one after each pass. [default: gmmdask.checkpoint-interval, 5]",
)
@click.option("--resume", is_flag=True, help="Continue from --checkpoint, if there is one.")
@click.option("--force-resume", is_flag=True, help="As --resume, on moved data or other starts too.")
@click.option("--memory-limit", help="What the fit may add to the process, such as 1GB.")
@click.option(
    "--cache",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "never", "always"]),
    help="Keep rows in memory once they are read; auto does if they fit.",
)
@click.option("--sample-rows", type=click.IntRange(1), help="Rows of the sample. [default: about 100 a parameter]")
@click.option("--dry-run", is_flag=True, help="Say what the fit would read and take, from headers alone, and end.")
@click.option("--require-convergence", is_flag=True, help="Exit with 4 if the fit did not converge.")
@how_to_read
@how_to_weigh
@where_to_run
@log_format
def command(data: str, output: str, overwrite: bool, resume: bool, force_resume: bool, **options: Any) -> None:
    """Fit a Gaussian mixture to DATA, a Zarr array, .npy or Parquet files, and write the model."""
    import warnings
    from pathlib import Path

    from gmmdask.cli import NotConverged
    from gmmdask.cli._progress import Reporter
    from gmmdask.cli._tables import components, console, show
    from gmmdask.model_file import Model, save_model

    checkpoint, resume = options["checkpoint"], resume or force_resume
    if resume and checkpoint is None:
        raise click.UsageError("--resume needs --checkpoint.")
    if options["checkpoint_every"] is not None and checkpoint is None:
        raise click.UsageError("--checkpoint-every needs --checkpoint.")
    if checkpoint is not None and Path(checkpoint).resolve() == Path(output).resolve():
        raise click.UsageError("--checkpoint and --output name the same file.")
    source = open_weighted(data, options)
    with Reporter(options["log_format"]) as reporter, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say are events, told by the reporter
        mixture = estimator(options, reporter)
        how = "force" if force_resume else resume
        check_output(output, overwrite, how, mixture, source)
        where = open_where(*(options[name] for name in ("scheduler", "scheduler_file", "workers", "threads")))
        if options["dry_run"]:
            show(planned(source, mixture.settings(source), where), options["log_format"])
            return
        with interval(options["checkpoint_every"]):
            mixture.fit(source, scheduler=where, resume=how)
    fitted = mixture.mixture_.by_weight()
    provenance = {**mixture.provenance_, "run_id": reporter.run_id}
    save_model(output, Model(fitted, provenance, feature_names=source.feature_names))
    show({"model": output, **reporter.summary(mixture)}, options["log_format"])
    if options["log_format"] != "json":
        console().print(components(fitted))
    if options["require_convergence"] and not mixture.converged_:
        raise NotConverged(mixture.outcome_.sentence)


def check_output(output: str, overwrite: bool, resume: bool | str, mixture: Any, source: Any) -> None:
    """Refuses an output that may not be written: a resumed fit may replace its own.

    Raises
    ------
    OutputError
        If it exists already...
    ValueError
        ...unless the checkpoint is one of another fit, which is why the output is not this one's.
    """
    from gmmdask.outputs import OutputError, check_outputs, check_url
    from gmmdask.place import is_url
    from gmmdask.progress import check_resumable
    from gmmdask.sources import addresses

    replaces = overwrite or (bool(resume) and is_own(output, mixture, source))
    try:
        if is_url(output):
            check_url(output, replaces)
        else:
            check_outputs([output], replaces, inputs=addresses(source))
    except OutputError:
        if resume:
            check_resumable(mixture.checkpoint, source, mixture.settings(source), resume == "force")
        raise


def interval(seconds: float | None) -> AbstractContextManager[Any]:
    """Sets how often a checkpoint is written, for a while."""
    import dask

    return nullcontext() if seconds is None else dask.config.set({"gmmdask.checkpoint-interval": seconds})


def planned(source: Any, settings: Any, where: Any) -> dict[str, Any]:
    """What a fit would read and take; a cluster is asked for nothing but that it is there."""
    from gmmdask.forecast import forecast

    try:
        return forecast(source, settings, where)
    finally:
        where.__exit__(None, None, None)


def estimator(options: dict[str, Any], reporter: Any) -> Any:
    """The estimator that the options describe."""
    from gmmdask.estimator import GaussianMixture

    settings = {"tol": options["tol"], "max_iter": options["max_iter"]}
    return GaussianMixture(
        options["components"],
        covariance_type=options["covariance"],
        reg_covar=options["reg_covar"],
        **settings,
        n_init=options["n_init"],
        init_params=options["init"],
        random_state=options["seed"],
        algorithm=chosen(options["algorithm"], options["optimizer"], options["learning_rate"], settings),
        accelerate=None if options["accelerate"] == "none" else options["accelerate"],
        stop=options["stop"],
        checkpoint=options["checkpoint"],
        callbacks=(reporter,),
        memory_limit=options["memory_limit"],
        cache=options["cache"],
        sample_rows=options["sample_rows"],
        empty=options["empty"],
        prior=None if options["prior"] == "none" else options["prior"],
        weight_concentration=options["weight_concentration"],
        refine=None if options["refine"] == "none" else options["refine"],
        noise=options["noise"],
    )


def is_own(output: str, mixture: Any, source: Any) -> bool:
    """Whether the output is a model of the same data and settings: what a resumed fit may replace."""
    from gmmdask.container import FileError
    from gmmdask.model_file import load_model

    try:
        return bool(mixture.made(load_model(output).provenance, source))
    except FileError:
        return False
