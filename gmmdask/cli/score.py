"""gmmdask score: data and model -> mean log density."""

import click

from gmmdask.cli._options import how_to_read, log_format, open_data, open_where, where_to_run


@click.command("score")
@click.argument("data")
@click.option("-m", "--model", required=True, type=click.Path(), help="Model file.")
@how_to_read
@where_to_run
@log_format
def command(
    data: str,
    model: str,
    accept_missing: bool,
    columns: str | None,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int | None,
    log_format: str,
) -> None:
    """Print the mean log density (nats per row), BIC and AIC of DATA under a model, by one pass."""
    import math

    from gmmdask.cli._tables import show
    from gmmdask.densities import check_names
    from gmmdask.model_file import load_model
    from gmmdask.predict import total_score

    found = load_model(model)
    mixture, source = found.mixture, open_data(data, accept_missing, columns)
    check_names(found.feature_names, source)
    with open_where(scheduler, scheduler_file, workers, threads) as executor:
        total = total_score(mixture, source, executor)
    p = mixture.n_parameters
    told = {
        "rows": source.n,
        "mean_log_density": total / source.n,
        "log_likelihood": total,
        "bic": -2 * total + p * math.log(source.n),
        "aic": -2 * total + 2 * p,
    }
    show(told, log_format)
