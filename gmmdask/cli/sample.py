"""gmmdask sample: rows drawn from a mixture by specification, or from a model file."""

import click

from gmmdask.cli._job_file import job_file
from gmmdask.cli._options import COVARIANCE


@click.command("sample")
@job_file
@click.option("-m", "--model", type=click.Path(), help="Draw from this model file, not from a random mixture.")
@click.option("-n", "--rows", default=1000, show_default=True, type=click.IntRange(1))
@click.option("-d", "--features", default=2, show_default=True, type=click.IntRange(1))
@click.option("-k", "--components", default=3, show_default=True, type=click.IntRange(1))
@click.option("--covariance", default="diag", type=COVARIANCE, show_default=True, help="full, tied, diag or spherical.")
@click.option("--separation", default=3.0, show_default=True, help="Of the closest means, in standard deviations.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("-o", "--output", required=True, type=click.Path(), help="Rows: a .npy file, or else a Zarr array.")
@click.option("--labels", type=click.Path(), help="Components of the rows, like --output.")
@click.option("--truth", type=click.Path(dir_okay=False), help="Model file of the mixture that was drawn from.")
@click.option("--picture", type=click.Path(dir_okay=False), help="PNG of the rows and their mixture.")
@click.option("--chunk-rows", type=click.IntRange(1), help="Rows of a chunk. [default: about 8 MiB]")
@click.option("--dtype", default="float64", show_default=True, type=click.Choice(["float32", "float64"]))
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
def command(
    model: str | None,
    rows: int,
    features: int,
    components: int,
    covariance: str,
    separation: float,
    seed: int,
    output: str,
    labels: str | None,
    truth: str | None,
    picture: str | None,
    chunk_rows: int | None,
    dtype: str,
    overwrite: bool,
) -> None:
    """Draw rows of a mixture of Gaussians and write them: by default the classic toy set of 1,000 rows."""
    from gmmdask.model_file import Model, load_model, save_model
    from gmmdask.outputs import check_outputs
    from gmmdask.synthetic import default_chunk_rows, draw_chunk, make_dataset, random_mixture

    inputs = [] if model is None else [model]
    check_outputs([path for path in (output, labels, truth, picture) if path is not None], overwrite, inputs)
    if model is not None:
        mixture = load_model(model).mixture
    else:
        mixture = random_mixture(components, features, covariance, seed, separation)
    make_dataset(mixture, rows, output, seed, chunk_rows=chunk_rows, dtype=dtype, labels=labels, overwrite=overwrite)
    if truth is not None:
        drawn = {"data": {"kind": "sample"}, "rows": rows, "outcome": {"sentence": f"drawn at random, seed {seed}"}}
        save_model(truth, Model(mixture, drawn))
    if picture is not None:
        from gmmdask.plot import overview

        first = min(rows, chunk_rows or default_chunk_rows(mixture.d))
        overview(*draw_chunk(mixture, seed, 0, first), mixture, picture)
    click.echo(f"{output}: {rows:,} rows x {mixture.d} features of {mixture.n_components} components")
