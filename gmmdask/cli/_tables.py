"""Results on standard output: tables for people, one JSON object for programs."""

import json
import resource
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def show(rows: dict[str, Any], form: str) -> None:
    """Names and values: a two-column table, or a JSON object."""
    if form == "json":
        sys.stdout.write(json.dumps(rows, allow_nan=False) + "\n")
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    console().print(table)


def components(mixture: Any, names: Sequence[str] | None = None) -> Table:
    """Weights, means and standard deviations; features beyond those that there is room for are left out."""
    shown = min(mixture.d, max(1, (console().width - 32) // 24))
    of = "" if shown == mixture.d else f" of {mixture.d}"
    which = f"0 to {shown - 1}" if names is None else ", ".join(names[:shown])
    table = Table(title=f"components (features {which}{of})" if of or names else "components", title_justify="left")
    for heading in ("component", "weight", "mean", "standard deviation"):
        table.add_column(heading, justify="right" if heading in ("component", "weight") else "left")
    deviations = np.sqrt(np.diagonal(mixture.dense_covariances(), axis1=1, axis2=2))
    for k in range(mixture.n_components):
        numbers = (" ".join(number(value) for value in row[k][:shown]) for row in (mixture.means, deviations))
        table.add_row(str(k), f"{mixture.weights[k]:.4f}", *numbers)
    if mixture.noise is not None:
        table.add_row("noise", f"{mixture.noise.weight:.4f}")
    return table


def candidates(rows: Sequence[dict[str, Any]], choices: dict[str, dict[str, Any]]) -> Table:
    """What is known of each candidate, and which rules take it."""
    table = Table(title="candidates", title_justify="left")
    headings = (
        "covariance",
        "K",
        "parameters",
        "passes",
        "score",
        "behind",
        "±",
        "BIC",
        "ICL",
        "AIC",
        "state",
        "takes",
    )
    for heading in headings:
        left, whole = heading in ("covariance", "state", "takes"), heading != "takes"
        table.add_column(heading, justify="left" if left else "right", no_wrap=whole)
    for row in rows:
        of = {key: row[key] for key in ("covariance_type", "components")}
        takers = ", ".join(name.replace("_", " ") for name, choice in choices.items() if choice == of)
        scores = ("-" if row[key] is None else f"{row[key]:.5f}" for key in ("score", "behind", "behind_error"))
        criteria = ("-" if row[key] is None else f"{row[key]:,.1f}" for key in ("bic", "icl", "aic"))
        counts = (str(row[key]) for key in ("components", "parameters", "passes"))
        table.add_row(row["covariance_type"], *counts, *scores, *criteria, row["state"], takers)
    return table


def number(value: float) -> str:
    """Five digits in eleven characters."""
    return f"{value:11.5g}"


def console() -> Console:
    """Standard output, wide enough that a table in a log is not folded."""
    found = Console()
    return found if found.is_terminal else Console(width=160)


def peak_memory() -> int:
    """Most bytes that this process has had in memory so far."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib * (1 if sys.platform == "darwin" else 1024)
