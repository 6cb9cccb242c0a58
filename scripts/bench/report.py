"""What a trial found: JSON for programs, and the same figures as Markdown tables for people."""

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from threadpoolctl import threadpool_info

from gmmdask.execution.local import available_cores

PACKAGES = ("gmmdask", "numpy", "scipy", "numba", "dask", "zarr", "scikit-learn", "scikit-learn-intelex", "pyspark")


@dataclass(frozen=True)
class Table:
    """Rows of figures; a column is a key of the rows, its heading and how its figures are written."""

    title: str
    columns: Sequence[tuple[str, str, str]]
    rows: Sequence[Mapping[str, Any]]


def options_of(trial: str, parser: argparse.ArgumentParser, tiny: Mapping[str, Any]) -> argparse.Namespace:
    """Options of a trial, which all have a folder, made here, and `--tiny`: other defaults, to see whether it works."""
    parser.description, parser.formatter_class = trial, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path("bench-output"), help="of data and of what is found")
    parser.add_argument("--tiny", action="store_true", help="a few rows: seconds, and figures that mean nothing")
    if parser.parse_args().tiny:
        parser.set_defaults(**tiny)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def write(options: argparse.Namespace, name: str, title: str, text: str, tables: Sequence[Table], **more: Any) -> None:
    """Writes NAME.json and prints the tables."""
    found = {
        "title": title,
        "text": text,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "tiny": options.tiny,
    }
    found |= {"tables": [asdict(table) for table in tables], **more}
    (options.folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    print(section(found))


def section(found: Mapping[str, Any]) -> str:
    """A heading, what was measured, and the tables."""
    return (
        "\n\n".join([f"## {found['title']}", found["text"], *(markdown(**table) for table in found["tables"])]) + "\n"
    )


def markdown(title: str, columns: Iterable[Sequence[str]], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table; a figure that is None is a dash."""
    columns = list(columns)
    lines = [[heading for _, heading, _ in columns], ["---"] * len(columns)]
    lines += [["-" if row.get(key) is None else f"{row[key]:{form}}" for key, _, form in columns] for row in rows]
    return "\n".join(([f"{title}\n"] if title else []) + [f"| {' | '.join(line)} |" for line in lines])


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.system(),
        "python": platform.python_version(),
        "blas": sorted({f"{lib['internal_api']} {lib['version']}" for lib in threadpool_info() if lib["version"]}),
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
    }


def processor() -> str:
    """The model as Linux tells it, or what the platform knows."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
