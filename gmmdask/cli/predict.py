"""gmmdask predict: data and model -> labels, posteriors, log densities as Zarr."""

import click

from gmmdask.cli._options import how_to_read, open_data, open_where, where_to_run

WHATS = ("labels", "proba", "score")


@click.command("predict")
@click.argument("data")
@click.option("-m", "--model", required=True, type=click.Path(), help="Model file.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Zarr group to write.")
@click.option("--what", default="labels", show_default=True, help="Arrays to write: labels,proba,score.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@how_to_read
@where_to_run
def command(
    data: str,
    model: str,
    output: str,
    what: str,
    overwrite: bool,
    accept_missing: bool,
    columns: str | None,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int | None,
) -> None:
    """Write labels, posteriors or log densities of the rows of DATA to a Zarr group, one array each."""
    whats = tuple(what.split(","))
    if unknown := [name for name in whats if name not in WHATS]:
        raise click.UsageError(f"--what: unknown {', '.join(unknown)}; choose from {', '.join(WHATS)}.")
    if len(set(whats)) < len(whats):
        raise click.UsageError(f"--what: {what} names an array twice.")
    from gmmdask.model_file import load_model
    from gmmdask.predict import write_predictions

    mixture = load_model(model).mixture
    source = open_data(data, accept_missing, columns)
    with open_where(scheduler, scheduler_file, workers, threads) as executor:
        write_predictions(mixture, source, output, whats, executor, overwrite)
    click.echo(f"{output}: {', '.join(whats)} of {source.n:,} rows")
