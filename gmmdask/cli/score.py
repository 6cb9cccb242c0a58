"""gmmdask score: data and model -> mean log density."""

from typing import Any

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import (
    how_to_miss,
    how_to_read,
    how_to_weigh,
    log_format,
    open_weighted,
    open_where,
    where_to_run,
)


@click.command("score")
@job_file
@click.argument("data")
@click.option("-m", "--model", required=True, type=click.Path(), help="Model file.")
@how_to_miss
@how_to_read
@how_to_weigh
@where_to_run
@log_format
def command(data: str, model: str, log_format: str, **options: Any) -> None:
    """Print the mean log density (nats per row), BIC and AIC of DATA under a model, by one pass."""
    import math

    from gmmdask.cli._tables import show
    from gmmdask.densities import check_names
    from gmmdask.model_file import load_model
    from gmmdask.predict import total_score

    found = load_model(model)
    mixture, source = found.mixture, open_weighted(data, options)
    check_names(found.feature_names, source)
    with open_where(options) as executor:
        missing = found.missing if options["missing"] is None else options["missing"] == "em"
        total, weight = total_score(mixture, source, executor, missing)
    p = mixture.n_parameters
    told = {
        "rows": source.n,
        **({} if source.weights is None else {"weight": weight}),
        "mean_log_density": total / weight,
        "log_likelihood": total,
        "bic": -2 * total + p * math.log(weight),
        "aic": -2 * total + 2 * p,
    }
    show(told, log_format)
