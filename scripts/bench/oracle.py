#!/usr/bin/env python
"""Largest differences from scikit-learn's model after the same start and the same 15 iterations, all kernels.

    .venv/bin/python scripts/bench/oracle.py
    .venv/bin/python scripts/bench/oracle.py --data rows.npy --components 12 --arcsinh 150

Prints a row per data set and covariance type: weights, means (in standard deviations), covariances (in units of the
largest variance) and score (nats per row), the worst of them. Exit code 1 if one is above 1e-9.
"""

import argparse
import sys

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from gmmdask.covariance import FAMILIES
from gmmdask.estep import available
from gmmdask.testing.oracle import compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a .npy file instead of scikit-learn's data sets")
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--arcsinh", type=float, help="use arcsinh(rows / this)")
    options = parser.parse_args()
    if options.data is not None:
        rows = np.load(options.data).astype(float)
        rows = rows if options.arcsinh is None else np.arcsinh(rows / options.arcsinh)
        sets = {options.data.rpartition("/")[2]: (rows, options.components)}
    else:
        digits = PCA(12, random_state=0).fit_transform(datasets.load_digits().data)
        sets = {
            "iris": (datasets.load_iris().data, 3),
            "wine": (datasets.load_wine().data, 3),
            "breast cancer": (datasets.load_breast_cancer().data, 2),
            "digits (12 dims)": (digits, 10),
        }
    worst = 0.0
    for name, (rows, k) in sets.items():
        for covariance_type in FAMILIES:
            found = [compare(rows, k, covariance_type, kernel).worst for kernel in available()]
            worst = max(worst, *found)
            told = "  ".join(f"{kernel} {value:.1e}" for kernel, value in zip(available(), found, strict=True))
            print(f"{name:>18} K={k:<3} {covariance_type:>10}  {told}", flush=True)
    return 0 if worst < 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())
