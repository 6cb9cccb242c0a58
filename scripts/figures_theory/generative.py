"""The generative model: three components, rows drawn from them, their density, soft and hard assignments."""

import numpy as np
from made import Made, dots, framed, mixed_colours, posteriors

from gmmdask.mixture import Mixture
from gmmdask.plot.pictures import density, ellipses
from gmmdask.plot.style import colours, new_figure

SURE = 0.9  # the largest responsibility of a row whose component can be told
WEIGHTS, MEANS = np.array([0.5, 0.3, 0.2]), np.array([[0.0, 0.0], [2.6, 1.4], [1.0, 4.0]])
COVARIANCES = np.array([[[1.0, 0.6], [0.6, 1.2]], [[0.9, -0.5], [-0.5, 0.8]], [[1.6, 0.2], [0.2, 0.3]]])
TRUTH = Mixture("full", WEIGHTS, MEANS, COVARIANCES)
CAPTION = (
    "{n:,} rows drawn from three Gaussians: first a component by the weights (50, 30 and 20 %), then a row from "
    "it. Top left, every row in the colour of its component, which data does not tell; top right, the density, in"
    " regions that hold 20 to 95 % of the mass. Below, the same rows without their components: colours mixed by "
    "responsibility, and the colour of the largest. {unsure:.0%} of rows have no responsibility above {sure}; the"
    " largest one names the component that the row came from for {right:.1%} of rows."
)


def make(tiny: bool) -> Made:
    n = 100 if tiny else 1500
    rows, labels = TRUTH.sample(n, np.random.default_rng(1))
    resp = posteriors(TRUTH, rows)
    hard = np.argmax(resp, axis=0)
    numbers = {
        "n": n,
        "weights": WEIGHTS.tolist(),
        "means": MEANS.tolist(),
        "covariances": COVARIANCES.tolist(),
        "right": float(np.mean(hard == labels)),
        "unsure": float(np.mean(resp.max(axis=0) < SURE)),
    }
    figure = new_figure(8.4, 6.6)
    axes = figure.subplots(2, 2).ravel()
    shades = colours(3)
    for ax, colour in zip(axes[[0, 2, 3]], (shades[labels], mixed_colours(resp), shades[hard]), strict=True):
        dots(ax, rows, colour)
    ellipses(TRUTH, ax=axes[0])
    density(TRUTH, ax=axes[1])
    titles = ("Rows by the component they came from", "Density", "Soft assignment", "Hard assignment")
    for ax, title in zip(axes, titles, strict=True):
        framed(ax, title, rows)
        ax.set(xlabel="", ylabel="")
    return Made(figure, CAPTION.format(n=n, sure=SURE, right=numbers["right"], unsure=numbers["unsure"]), numbers)
