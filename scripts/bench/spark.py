#!/usr/bin/env python
"""Seconds per EM iteration out of core, against Spark's GaussianMixture on the same rows, in turn.

    .venv/bin/python -m pip install --group bench      # pyspark and pyarrow; Spark needs Java
    .venv/bin/python scripts/bench/spark.py

Ours reads Zarr, Spark reads Parquet, both uncompressed; two threads and 4 GB each. An iteration of Spark is the
difference of fits of 3 and 1 iterations, divided by 2.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import zarr
from pyspark.ml.clustering import GaussianMixture as Peer
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession

from gmmdask import GaussianMixture
from gmmdask.execution import Threads
from gmmdask.synthetic import make_dataset, random_mixture


def write_parquet(rows: "zarr.Array", folder: Path) -> None:
    """The same rows, one Parquet file for about 1,000,000 of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, start in enumerate(range(0, rows.shape[0], 1_000_000)):
        part = rows[start : start + 1_000_000]
        table = pyarrow.table({f"x{j}": part[:, j] for j in range(part.shape[1])})
        pyarrow.parquet.write_table(table, folder / f"{number:05d}.parquet", compression="none")


def spark_seconds(folder: Path, d: int, k: int) -> float:
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g")
    session = builder.config("spark.ui.enabled", "false").config("spark.log.level", "ERROR").getOrCreate()
    frame = session.read.parquet(str(folder))
    rows = VectorAssembler(inputCols=[f"x{j}" for j in range(d)], outputCol="features").transform(frame)
    seconds = []
    for iterations in (1, 3):
        began = time.perf_counter()
        Peer(k=k, maxIter=iterations, tol=0.0, seed=0).fit(rows)
        seconds.append(time.perf_counter() - began)
    session.stop()
    return (seconds[1] - seconds[0]) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path("bench-output"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    n, d, k = options.rows, options.features, options.components
    data = options.folder / "spark-rows.zarr"
    make_dataset(random_mixture(k, d, "full", seed=0), n, data, overwrite=True)
    write_parquet(zarr.open_array(data, mode="r"), options.folder / "spark-rows.parquet")
    model = GaussianMixture(k, random_state=0, tol=0, max_iter=5).fit(str(data), scheduler=Threads(2))
    ours = statistics.median(row["seconds"] for row in model.history_)
    theirs = spark_seconds(options.folder / "spark-rows.parquet", d, k)
    found = {"n": n, "d": d, "k": k, "gmmdask_seconds": ours, "spark_seconds": theirs, "ratio": theirs / ours}
    (options.folder / "spark.json").write_text(json.dumps(found, indent=2))
    print(f"n={n} d={d} K={k}: gmmdask {ours:.2f} s, Spark {theirs:.2f} s per pass, ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
