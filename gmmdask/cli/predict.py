"""gmmdask predict: data and model -> labels, posteriors, log densities, outliers as Zarr."""

from typing import Any

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import how_to_miss, how_to_read, log_format, open_data, open_where, where_to_run

WHATS = ("labels", "proba", "score", "imputed")


@click.command("predict")
@job_file
@click.argument("data")
@click.option("-m", "--model", required=True, type=click.Path(), help="Model file.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Zarr group to write.")
@click.option("--what", default="labels", show_default=True, help="Arrays to write: labels,proba,score,imputed.")
@click.option(
    "--outliers",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Also write `outlier`: rows less likely than this fraction of the training rows.",
)
@click.option("--reference", help="Rows that this fraction is taken of, instead of the training's; may be DATA.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--resume", is_flag=True, help="Go on with what an interrupted run has left, if there is such.")
@how_to_miss
@how_to_read
@where_to_run
@log_format
def command(data: str, model: str, output: str, what: str, overwrite: bool, resume: bool, **options: Any) -> None:
    """Write labels, posteriors, log densities or completed rows of DATA to a Zarr group, one array each."""
    whats = tuple(what.split(","))
    if unknown := [name for name in whats if name not in WHATS]:
        raise click.UsageError(f"--what: unknown {', '.join(unknown)}; choose from {', '.join(WHATS)}.")
    if len(set(whats)) < len(whats):
        raise click.UsageError(f"--what: {what} names an array twice.")
    if options["reference"] is not None and options["outliers"] is None:
        raise click.UsageError("--reference goes with --outliers.")
    from gmmdask.cli._progress import Reporter
    from gmmdask.cli._tables import show
    from gmmdask.densities import check_names
    from gmmdask.model_file import load_model
    from gmmdask.write import write_predictions

    found, threshold = load_model(model), None
    missing = found.missing if options["missing"] is None else options["missing"] == "em"
    source = open_data(data, options)
    check_names(found.feature_names, source)
    where = open_where(options)
    with where as executor, Reporter(options["log_format"]) as reporter:
        if options["outliers"] is not None:
            threshold = threshold_of(found, options, executor, missing)
            whats = (*whats, "outlier")
        write_predictions(
            found.mixture,
            source,
            output,
            whats,
            executor,
            overwrite,
            threshold=threshold,
            missing=missing,
            resume=resume,
            emit=reporter,
        )
    if options["log_format"] == "json":
        show({"output": output, "arrays": list(whats), "rows": source.n, "threshold": threshold}, "json")
    else:
        click.echo(f"{output}: {', '.join(whats)} of {source.n:,} rows")


def threshold_of(model: Any, options: dict[str, Any], executor: Any, missing: bool) -> float:
    """The log density below which a row is an outlier, nats."""
    from gmmdask.densities import check_names
    from gmmdask.predict import reference_quantiles
    from gmmdask.quantiles import Quantiles

    if options["reference"] is None:
        return Quantiles.told_by(model.provenance).threshold(options["outliers"])
    reference = open_data(options["reference"], options)
    check_names(model.feature_names, reference)
    return reference_quantiles(model.mixture, reference, executor, missing).threshold(options["outliers"])
