"""The site is built without warnings, needs no network, and its reference has all public names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gmmdask
from gmmdask import plot
from gmmdask.algorithms import ALGORITHMS, Squarem

pytest.importorskip("sphinx")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-d", str(folder / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_pages_fetch_nothing_and_name_no_host(site: Path) -> None:
    pages = {path.relative_to(site): path.read_text() for path in site.rglob("*.html")}
    assert len(pages) > 25
    hosts = {host for page in pages.values() for host in re.findall(r"https?://([\w.-]+)", page)}
    assert hosts == {"www.w3.org", "..."}  # names of XML, and what stands for an endpoint
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert len(styles) > 3
    assert not any(re.search(r"url\([\"']?(https?:)?//|@import", style) for style in styles)


def test_the_reference_has_all_public_names(site: Path) -> None:
    defined = set(
        re.findall(r'<dt class="sig[^>]*id="([\w.]+)"', "".join(map(Path.read_text, site.glob("reference/*"))))
    )
    public = {f"gmmdask.{name}" for name in gmmdask.__all__ if name != "algorithms"}
    public |= {f"gmmdask.plot.{name}" for name in plot.__all__}
    public |= {f"gmmdask.algorithms.{kind.__name__}" for kind in (*ALGORITHMS.values(), Squarem)}
    assert public - defined == set()


def test_formulas_are_mathml_and_docstrings_are_lists(site: Path) -> None:
    theory, estimator = ((site / name).read_text() for name in ("theory.html", "reference/estimator.html"))
    assert theory.count("<math") > 50
    assert "$" not in re.sub(r"<(pre|code).*?</\1>", "", theory, flags=re.S)
    assert "<strong>covariance_type</strong> – {&quot;full&quot;, " in estimator
    assert '<code class="docutils literal notranslate"><span class="pre">max_iter</span></code>' in estimator
