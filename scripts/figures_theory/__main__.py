"""Figures of docs/theory.md: a picture (PNG) and its numbers (JSON) each, seeded, on data made here.

    scripts/figures em singularity                       # some
    scripts/figures --all                                # all, in under 15 minutes on 2 cores
    scripts/figures --all --tiny                         # whether they work: seconds, and numbers that mean nothing
    scripts/figures --all --folder docs/figures --write docs/theory.md     # the page with its captions and tables

A figure is a module here with a function `make(tiny)`. The page takes captions and tables from the JSON files in the
folder, and numbers from nowhere else.
"""

import argparse
import io
import json
import sys
import time
from importlib import import_module
from pathlib import Path

from made import Made
from page import filled
from PIL import Image  # Matplotlib brings it: a palette makes files a third as large

BENCH = Path(__file__).parents[1] / "bench"
FOLDER = Path(__file__).parents[2] / "figures-output"
FIGURES = (
    "generative",
    "em",
    "singularity",
    "label_switching",
    "kmeans_limit",
    "descent",
    "dimension",
    "from_scratch",
    "optimisers",
)


def keep(made: Made, name: str, folder: Path, tiny: bool, seconds: float) -> None:
    """Writes NAME.png and NAME.json."""
    drawn = io.BytesIO()
    made.picture.savefig(drawn, dpi=100, format="png")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
    report = import_module("report")
    tables = [report.markdown(*table) for table in made.tables]
    told = {"figure": name, "caption": made.caption, "tiny": tiny, "seconds": round(seconds, 1), "tables": tables}
    told |= {"machine": report.machine(), "numbers": made.numbers}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    print(f"{folder / name}.png, {seconds:.0f} s\n{made.caption}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--all", action="store_true", help="every figure")
    parser.add_argument("--tiny", action="store_true", help="a few rows and passes: numbers mean nothing")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of what is made")
    parser.add_argument("--write", type=Path, help="a page whose figures get the captions and tables of the folder")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figures called {', '.join(unknown)}: expected some of {', '.join(FIGURES)}")
    if not (options.names or options.all or options.write):
        parser.error("name some figures, or ask for --all")
    sys.path.append(str(BENCH))  # the trials' report writes tables and tells the machine
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES if options.all else options.names:
        began = time.perf_counter()
        made = import_module(name).make(options.tiny)
        keep(made, name, options.folder, options.tiny, time.perf_counter() - began)
    if options.write is not None:
        options.write.write_text(filled(options.write.read_text(), options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
