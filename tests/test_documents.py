"""Every code block of the documents runs, and prints what they say it does."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import gmmdask
from gmmdask.cli import main
from gmmdask.execution.distributed import local_cluster
from gmmdask.synthetic import random_mixture

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gmmdask.__file__).parent
ANYWHERE = "tcp://scheduler:8786"  # what documents call a scheduler
OPTIONS = '{"key": "...", "secret": "...", "endpoint_url": "https://..."}'  # and what opens a bucket
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": "endpoint_url"}


@dataclass(frozen=True)
class Code:
    """A fenced block: its language, what stands behind that, and its text."""

    language: str
    role: str
    text: str


def blocks(document: str) -> list[Code]:
    found = re.findall(r"^```(\w+) ?(.*?)\n(.*?)^```$", (ROOT / document).read_text(), flags=re.M | re.S)
    return [Code(*block) for block in found]


PAGES = [name for path in sorted((ROOT / "docs").rglob("*.md")) if blocks(name := str(path.relative_to(ROOT)))]


def run(command: list[str], folder: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sections(document: str) -> list[list[Code]]:
    """Blocks grouped into worked examples: each ends with one that is to be run."""
    groups: list[list[Code]] = [[]]
    for block in blocks(document):
        groups[-1].append(block)
        if block.role == "run":
            groups.append([])
    return groups[:-1]


@pytest.mark.parametrize("numbers", [(0,), (1, 2)], ids=["family", "algorithm and source"])
def test_contributing_one_file_and_one_line_are_enough(numbers: tuple[int, ...], tmp_path: Path) -> None:
    """Two examples share a copy of the package, whose kernel has to be compiled."""
    shutil.copytree(PACKAGE, tmp_path / "gmmdask", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    examples = sections("CONTRIBUTING.md")
    assert len(examples) == 3
    for number in numbers:
        for block in examples[number]:
            add(block, tmp_path, tmp_path / "tests" / f"test_example_{number}.py")
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path, PYTHONPATH=str(tmp_path))


def add(block: Code, folder: Path, tests: Path) -> None:
    """Does to a copy of the package what the block is there for."""
    role, _, name = block.role.partition("=")
    target = folder / name
    if role == "file":
        target.write_text(block.text)
    elif role == "insert":
        head, opening, rest = re.split(r"^([A-Z]+: .*[{\[]\n)", target.read_text(), maxsplit=1, flags=re.M)
        target.write_text(head + opening + block.text + rest)
    elif role == "import":
        head, docstring, rest = target.read_text().split('"""', 2)
        target.write_text(f'{head}"""{docstring}"""\n{block.text}{rest}')
    else:
        tests.write_text(block.text)


# --- pages ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with local_cluster(2) as cluster:
        yield cluster.client.scheduler.address


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> dict[str, str]:
    """Storage options of a local server, whose bucket holds rows.zarr."""
    s3fs = pytest.importorskip("s3fs")
    found = {"key": "documents", "secret": "documents", "endpoint_url": s3_endpoint}
    system = s3fs.S3FileSystem(**found)
    system.mkdir("bucket")
    rows = random_mixture(3, 2, "full", separation=4.0).sample(2000, np.random.default_rng(0))[0]
    store = zarr.storage.FsspecStore.from_url("s3://bucket/rows.zarr", storage_options=found)
    zarr.create_array(store, data=rows, chunks=(500, 2))
    return found


def told_by_python(block: Code, document: str, names: dict[str, Any]) -> str:
    """What it prints, run in this process as a main script is."""
    with redirect_stdout(StringIO()) as told:
        exec(compile(block.text, document, "exec"), names)
    return told.getvalue()


def told_by_shell(block: Code, folder: Path) -> str:
    """What it prints; commands of ours run in this process, which need not start for each."""
    lines = [shlex.split(line) for line in block.text.splitlines()]
    if any(words[0] != "gmmdask" or "|" in words for words in lines):
        return run(["bash", "-euc", block.text], folder)
    told = ""
    for _, *words in lines:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, f"{words}\n{done.output}"
        told += done.stdout
    return told


def run_page(document: str, code: list[Code], folder: Path, one_program: bool) -> None:
    """Runs all blocks in order, in one folder.

    `compile` stands behind the language of those that need packages or machines that are not here, a file's name
    behind `yaml`; what is in `text` is what the block before it prints.
    """
    told, main_script = "", {"__name__": "__main__"}
    names = dict(main_script)
    for block in code:
        if block.language == "text":
            assert told == block.text, f"{document} says\n{block.text}\nand its code\n{told}"
        elif block.language == "yaml":
            (folder / block.role).write_text(block.text)
        elif block.role == "compile" and block.language == "python":
            compile(block.text, document, "exec")
        elif block.role == "compile":
            run(["bash", "-nc", block.text], folder)
        elif block.language == "python":
            told = told_by_python(block, document, names if one_program else dict(main_script))
        else:
            assert block.language == "sh", f"{document}: nothing runs {block.language}"
            told = told_by_shell(block, folder)


@pytest.mark.parametrize("document", ["README.md", *PAGES])
def test_code_on_pages_runs_and_prints_what_they_say(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A page of the documentation is one program; README's blocks are each for itself."""
    monkeypatch.chdir(tmp_path)
    code = [block for block in blocks(document) if "scripts/" not in block.text]
    text = "".join(block.text for block in code if block.role != "compile")
    here: dict[str, str] = {}
    if ANYWHERE in text:
        here[ANYWHERE] = request.getfixturevalue("scheduler")
    if "s3://bucket" in text:
        options = request.getfixturevalue("bucket")
        here[OPTIONS] = repr(options)
        for name, option in ENVIRONMENT.items():
            monkeypatch.setenv(name, options[option])
    for there, instead in here.items():
        code = [replace(block, text=block.text.replace(there, instead)) for block in code]
    run_page(document, code, tmp_path, one_program=document != "README.md")
    page = Path(document).stem
    for name in re.findall(rf"\(figures/{page}_(\w+)\.png\)", (ROOT / document).read_text()):
        shown, made = (
            pytest.importorskip("matplotlib.image").imread(path)
            for path in (ROOT / f"docs/figures/{page}_{name}.png", tmp_path / f"{name}.png")
        )
        assert shown.shape[:2] == made.shape[:2]
        assert np.abs(shown[..., :3] - made[..., :3]).mean() < 0.02


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (document, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#\s]+)", document.read_text())
        if "://" not in link
    ]
    assert len(links) > 50
    assert [f"{document}: {link}" for document, link in links if not (document.parent / link).exists()] == []


def test_readme_scripts_exist_and_can_be_run() -> None:
    named = set(re.findall(r"scripts/[\w/.]+", (ROOT / "README.md").read_text()))
    assert {"scripts/demo", "scripts/test"} <= named
    for name in named:
        path = ROOT / name
        assert path.is_dir() or path.suffix == ".py" or os.access(path, os.X_OK), name


def test_the_small_demo_writes_what_it_says(tmp_path: Path) -> None:
    told = run(["gmmdask", "demo", "--small", "--output", str(tmp_path / "demo")], tmp_path)
    assert "true and fitted components" in told
    for name in ("rows.zarr", "model.gmm", "labels.zarr/labels", "fit.png", "convergence.png"):
        assert (tmp_path / "demo" / name).exists(), name
