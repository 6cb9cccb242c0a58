#!/usr/bin/env python
"""Seconds per EM iteration out of core, against Spark's GaussianMixture on the same rows, in turn.

    .venv/bin/python -m pip install --group bench      # pyspark and pyarrow; Spark needs Java
    .venv/bin/python scripts/bench/spark.py

Ours reads Zarr, Spark reads Parquet, both uncompressed; two threads and 4 GB each. An iteration of Spark is the
difference of fits of 3 and 1 iterations, divided by 2.
"""

import argparse
import inspect
import shutil
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import zarr
from pyspark.ml.clustering import GaussianMixture as Peer
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession
from report import Table, options_of, write
from stores import stored
from timing import Clock

from gmmdask import GaussianMixture
from gmmdask.execution import Threads
from gmmdask.synthetic import random_mixture

TEXT = """Seconds of one EM pass out of core, `full`: gmmdask from Zarr, nothing kept in memory between passes, Spark
from Parquet, both uncompressed; two threads and 4 GB each."""
COLUMNS = [
    ("n", "rows", ","),
    ("d", "d", ""),
    ("k", "K", ""),
    ("gmmdask", "gmmdask, s", ".2f"),
    ("spark", "Spark, s", ".1f"),
    ("ratio", "ratio", ".1f"),
]


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
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    options = options_of(__doc__, parser, {"rows": 20_000, "features": 2, "components": 2})
    n, d, k = options.rows, options.features, options.components
    data = stored(random_mixture(k, d, "full", seed=0), n, options.folder)
    write_parquet(zarr.open_array(data, mode="r"), options.folder / "spark-rows.parquet")
    clock, kept = Clock(), {"cache": "never"} if "cache" in inspect.signature(GaussianMixture).parameters else {}
    model = GaussianMixture(k, random_state=0, tol=0, max_iter=5, callbacks=[clock], **kept)
    model.fit(str(data), scheduler=Threads(2))
    theirs = spark_seconds(options.folder / "spark-rows.parquet", d, k)
    found = {"n": n, "d": d, "k": k, "gmmdask": clock.median, "spark": theirs, "ratio": theirs / clock.median}
    write(options, "spark", "Against Spark", TEXT, [Table("", COLUMNS, [found])])


if __name__ == "__main__":
    main()
