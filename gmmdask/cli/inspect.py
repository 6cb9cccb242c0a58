"""gmmdask inspect: what a model file holds."""

import click

from gmmdask.cli._options import log_format


@click.command("inspect")
@click.argument("model", type=click.Path())
@log_format
def command(model: str, log_format: str) -> None:
    """Show what was fitted to what, how it ended, and the components."""
    from gmmdask.cli._tables import components, console, show
    from gmmdask.model_file import load_model

    found = load_model(model)
    mixture, told = found.mixture, found.provenance
    data, outcome, settings = told.get("data", {}), told.get("outcome", {}), told.get("settings", {})
    history = told.get("history", [])
    kinds = f"{mixture.covariance_type} covariances" + (", and noise" if mixture.noise is not None else "")
    summary = {
        "model": model,
        "mixture": f"{mixture.n_components} components, {mixture.d} features, {kinds}",
        "features": None if found.feature_names is None else ", ".join(found.feature_names),
        "data": data.get("address", data.get("kind", "unknown")),
        "weights": data["weights"].get("address", data["weights"]["kind"]) if "weights" in data else None,
        "rows": told.get("rows"),
        "dtype": data.get("dtype"),
        "outcome": outcome.get("sentence"),
        "stages": outcome.get("took"),
        "lower_bound": history[-1]["lower_bound"] if history else None,
        "passes": len(history),
        "settings": {key: value for key, value in settings.items() if key != "given"},
        "versions": told.get("versions"),
        "run_id": told.get("run_id"),
    }
    if log_format == "json":
        show({**summary, "provenance": told}, "json")
        return
    for key in ("settings", "versions"):
        summary[key] = ", ".join(f"{name}={value}" for name, value in (summary[key] or {}).items())
    show({name: value for name, value in summary.items() if value not in (None, "", 0)}, log_format)
    console().print(components(mixture, found.feature_names))
