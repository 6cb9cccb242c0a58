"""gmmdask demo: the main job from beginning to end."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np

    from gmmdask.estimator import GaussianMixture
    from gmmdask.mixture import Mixture

COMPONENTS, FEATURES = 6, 8
ROWS, SMALL_ROWS = 16_000_000, 200_000
MEMORY_LIMIT = "256MB"
SHOWN_ROWS = 20_000


@click.command("demo")
@click.option("-o", "--output", default="gmmdask-demo", show_default=True, type=click.Path(file_okay=False))
@click.option("--small", is_flag=True, help=f"{SMALL_ROWS:,} rows instead of {ROWS:,} (1 GB).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def command(output: str, small: bool, seed: int) -> None:
    """Make a mixture as Zarr, fit it out of core, write model, labels and pictures to a folder."""
    from gmmdask.cli._progress import Reporter
    from gmmdask.cli._tables import peak_memory
    from gmmdask.estimator import GaussianMixture
    from gmmdask.execution import Threads
    from gmmdask.model_file import Model, save_model
    from gmmdask.sources import open_source
    from gmmdask.synthetic import make_dataset, random_mixture
    from gmmdask.write import write_predictions

    folder, rows = Path(output), SMALL_ROWS if small else ROWS
    folder.mkdir(parents=True, exist_ok=True)
    truth = random_mixture(COMPONENTS, FEATURES, "full", seed)
    data = folder / "rows.zarr"
    said(f"Making {rows:,} rows x {FEATURES} features of {COMPONENTS} components ({rows * FEATURES * 8 / 1e9:.2g} GB)")
    make_dataset(truth, rows, data, seed, overwrite=True)
    said(f"Fitting {data} with memory_limit={MEMORY_LIMIT}")
    before = peak_memory()
    with Reporter("auto") as reporter:
        model = GaussianMixture(
            COMPONENTS,
            random_state=seed,
            n_init=4,
            stop="predicted",
            tol=1e-5,
            memory_limit=MEMORY_LIMIT,
            callbacks=(reporter,),
        ).fit(str(data))
    added = peak_memory() - before
    save_model(folder / "model.gmm", Model(model.mixture_, model.provenance_))
    source = open_source(str(data))
    said("Writing labels")
    began = time.perf_counter()
    write_predictions(model.mixture_, source, folder / "labels.zarr", ("labels",), Threads(), overwrite=True)
    said(f"{rows / (time.perf_counter() - began):,.0f} rows/s")
    pictures(model, folder, str(data))
    table(model, truth, added)
    said(f"Wrote rows.zarr, model.gmm, labels.zarr/labels, fit.png and convergence.png to {folder}")


def said(text: str) -> None:
    click.echo(text, err=True)


def pictures(model: "GaussianMixture", folder: Path, data: str) -> None:
    """The fit over the first rows of the data, and its convergence."""
    import zarr

    from gmmdask.plot import convergence, overview, save

    rows: np.ndarray = zarr.open_array(data, mode="r")[:SHOWN_ROWS]
    overview(rows, model.predict(rows), model.mixture_, folder / "fit.png")
    save(convergence(model.history_), folder / "convergence.png")


def table(model: "GaussianMixture", truth: "Mixture", added: int) -> None:
    """What was found beside what was drawn, components matched over permutations."""
    import numpy as np
    from rich.table import Table

    from gmmdask.cli._tables import console, show
    from gmmdask.matching import match

    found = model.mixture_.reordered(match(truth, model.mixture_))
    shown = Table(title="true and fitted components, matched", title_justify="left")
    for heading in ("", "weight", "mean (4 of 8 features)", "relative error of the covariance"):
        shown.add_column(heading)
    errors = np.linalg.norm(found.dense_covariances() - truth.dense_covariances(), axis=(1, 2))
    errors /= np.linalg.norm(truth.dense_covariances(), axis=(1, 2))
    for k in range(truth.n_components):
        for name, mixture, error in (("true", truth, ""), ("fitted", found, f"{errors[k]:.1e}")):
            numbers = " ".join(f"{value:8.4f}" for value in mixture.means[k][:4])
            shown.add_row(f"{k} {name}", f"{mixture.weights[k]:.5f}", numbers, error, end_section=name == "fitted")
    console().print(shown)
    seconds = sum(row["seconds"] for row in model.history_)
    show(
        {
            "outcome": model.outcome_.sentence,
            "passes": model.n_iter_,
            "lower bound (nats/row)": f"{model.lower_bound_:.6f}",
            "rows/s": f"{sum(row['rows'] for row in model.history_) / seconds:,.0f}",
            "peak memory added by the fit": f"{added / 1e6:,.0f} MB (limit {MEMORY_LIMIT})",
        },
        "plain",
    )
