"""Figures are made tiny, so that they cannot rot; the page of theory shows what they found, and names what exists."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gmmdask.frame import Prior
from gmmdask.gradients import gradient
from gmmdask.mixture import Mixture
from gmmdask.testing.passes import e_step, identity_frame

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
CODE, SHOWN = ROOT / "scripts" / "figures_theory", ROOT / "docs" / "figures"
PAGE = (ROOT / "docs" / "theory.md").read_text()
NAMES = {
    "generative",
    "em",
    "singularity",
    "label_switching",
    "kmeans_limit",
    "descent",
    "dimension",
    "from_scratch",
    "optimisers",
}


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the figures; they import each other by name."""
    monkeypatch.syspath_prepend(str(CODE))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one command leaves."""
    folder = tmp_path_factory.mktemp("figures")
    command = [sys.executable, "-W", "error", str(CODE), "--all", "--tiny", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def numbers(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())["numbers"]


def test_every_figure_is_a_picture_with_its_numbers(folder: Path) -> None:
    assert {path.stem for path in folder.iterdir()} == NAMES
    for name in NAMES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        told = json.loads((folder / f"{name}.json").read_text())
        assert told["tiny"]
        assert len(told["caption"]) > 100
        assert told["numbers"]


def test_an_unknown_figure_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(CODE), "generativ", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "generativ" in done.stderr


@pytest.mark.parametrize("which", ["tiny", "shown"])
def test_figures_show_what_their_captions_say(which: str, folder: Path) -> None:
    found = {name: numbers(folder if which == "tiny" else SHOWN, name) for name in NAMES}
    bounds = np.array(found["em"]["bounds"])
    assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))
    assert found["singularity"]["runs"]["no remedy"][-1] < 1e-6
    assert found["singularity"]["runs"]['prior="mclust"'][-1] > 0.1
    assert found["singularity"]["collapsed"] > 0
    assert np.ptp(found["label_switching"]["scores"]) < 1e-12
    assert found["label_switching"]["means_differ_by"] < 1e-9
    assert found["label_switching"]["summits_differ_by"] < 1e-12
    assert max(found["kmeans_limit"]["1e-12"]["apart"]) < 1e-12
    assert max(found["kmeans_limit"]["1"]["apart"]) > 0.01


def test_what_the_page_says_of_its_figures_is_what_they_found() -> None:
    """The words beside them; seconds depend on the machine, and no word does on them."""
    rows = {(row["kind"], row["method"]): row["passes_0.0001"] for row in numbers(SHOWN, "optimisers")["rows"]}
    apart, close = ({name: rows[kind, name] for _, name in rows} for kind in ("well separated", "poorly separated"))
    assert apart["EM"] == min(apart.values()) <= 3
    assert max(close["Riemannian"], close["L-BFGS"]) < close["EM"] / 2
    assert max(close["Riemannian"], close["L-BFGS"]) < close["SQUAREM"] < 0.6 * close["EM"]
    assert close["Adam"] == max(close.values())
    assert apart["Adam"] == max(apart.values())
    found = {(row["method"], row["d"]): row for row in numbers(SHOWN, "dimension")["medians"]}
    loss, smallest = ({key: row[name] for key, row in found.items()} for name in ("loss", "smallest"))
    assert 1.0 < loss["EM, full", 2] / (59 / 2000) < 1.3  # p/2n
    assert loss["EM, full", 10] / (659 / 2000) > 2
    assert loss["EM, full", 10] < min(loss["EM, diag", 10], loss["EM, tied", 10])
    for d in (50, 100):
        assert min(row["loss"] for row in found.values() if row["d"] == d) == loss["EM, diag", d]
        assert loss["EM, full", d] < loss["MAP, full", d]
        assert found["EM, full", d]["means"] < found["Adam, full", d]["means"]
    assert smallest["EM, full", 100] < 1e-4 < smallest["MAP, full", 100]


def test_the_page_has_all_figures_and_only_what_they_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(re.findall(r"\(figures/(\w+)\.png\)", PAGE)) == NAMES
    assert module("page", monkeypatch).filled(PAGE, SHOWN) == PAGE
    assert not any(json.loads((SHOWN / f"{name}.json").read_text())["tiny"] for name in NAMES)
    sizes = [(SHOWN / f"{name}.png").stat().st_size for name in NAMES]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_000_000


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_functions_and_tests_that_the_page_names_exist() -> None:
    functions, tests = set(re.findall(r"`(gmmdask\.[\w.]+)`", PAGE)), set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE))
    assert len(functions) > 10
    assert len(tests) > 15
    assert [name for name in functions if not resolves(name)] == []
    assert [found for found in tests if f"def {found[1]}(" not in (ROOT / found[0]).read_text()] == []


def test_the_gradient_from_scratch_is_that_of_finite_differences_and_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = module("from_scratch", monkeypatch)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 3)) * [1.0, 2.0, 0.5]
    flat = rng.normal(size=3 + 9 + 9) * 0.5

    def at(vector: np.ndarray) -> object:
        return scratch.Parameters(vector[:3], vector[3:12].reshape(3, 3), vector[12:].reshape(3, 3))

    _, slopes = scratch.value_and_gradient(at(flat), rows)
    found = np.concatenate([slopes.logits, slopes.means.ravel(), slopes.log_sigma.ravel()])
    values = [
        [scratch.value_and_gradient(at(flat + sign * step), rows)[0] for sign in (1, -1)]
        for step in 1e-5 * np.eye(flat.size)
    ]
    np.testing.assert_allclose(found, (np.array(values) @ [1, -1]) / 2e-5, atol=1e-8)
    mixture: Mixture = at(flat).mixture()  # type: ignore[attr-defined]
    stats = e_step(rows, mixture, "centred", identity_frame(3), [(0, 50)])
    library = gradient(mixture.coordinates(), stats, mixture, Prior(np.zeros((3, 3))))
    found[12:] /= 2  # of log σ, twice that of log σ²
    np.testing.assert_allclose(found, library, atol=1e-12)
