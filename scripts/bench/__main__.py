"""All trials in turn, each in its own process, then one page of their tables.

    .venv/bin/python scripts/bench                                    # an hour or so, and 50 GB of disk
    .venv/bin/python scripts/bench speed growth --write docs/performance.md
    .venv/bin/python scripts/bench --tiny                             # whether they work

Each trial can be run alone, with options of its own: scripts/bench/NAME.py --help. The page is made of the JSON files
in the folder, which `--keep` does not write anew.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from report import section

TRIALS = (
    *("speed", "out_of_core", "memory", "growth", "sizes", "shared", "cluster"),
    *("passes", "selection", "true_k", "stream", "rare", "outliers", "spark"),
)
INTRODUCTION = """# Performance

Measured by `scripts/bench` on {date}, one run after another on one machine; ratios are what to compare, and anyone can
make this page again: `.venv/bin/python -m pip install --group bench`, then
`.venv/bin/python scripts/bench --write docs/performance.md`.{warning}

{processor}, {cores} cores, {gigabytes:.0f} GB of memory; {system}; Python {python}; {blas}; {versions}.
"""


def can_run(name: str) -> bool:
    """Spark is the only peer without which nothing of a trial is left."""
    return name != "spark" or (importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None)


def page(results: list[dict[str, Any]]) -> str:
    """The introduction and all sections."""
    told = dict(results[0]["machine"])
    told |= {"date": results[0]["date"], "gigabytes": told["memory_bytes"] / 1e9, "blas": ", ".join(told["blas"])}
    told["versions"] = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    tiny = any(found["tiny"] for found in results)
    told["warning"] = " **A tiny run: the figures mean nothing.**" if tiny else ""
    return "\n".join([INTRODUCTION.format(**told), *map(section, results)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRIALS)}; all by default")
    parser.add_argument("--tiny", action="store_true", help="a few rows: figures mean nothing")
    parser.add_argument("--folder", type=Path, default=Path("bench-output"), help="of data and JSON")
    parser.add_argument("--keep", action="store_true", help="do not repeat trials whose JSON lies in the folder")
    parser.add_argument("--write", type=Path, help="the page of tables")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in TRIALS]
    if unknown:
        parser.error(f"no trials called {', '.join(unknown)}: expected some of {', '.join(TRIALS)}")
    wanted = options.names or [name for name in TRIALS if can_run(name)]
    results, failed = [], []
    for name in wanted:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--folder", str(options.folder)]
        found = options.folder / f"{name}.json"
        if not (options.keep and found.exists()):
            print(f"--- {name}", flush=True)
            if subprocess.run([*command, *(["--tiny"] if options.tiny else [])], check=False).returncode:
                failed.append(name)
                continue
        results.append(json.loads(found.read_text()))
    if options.write is not None and results:
        options.write.write_text(page(results))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
