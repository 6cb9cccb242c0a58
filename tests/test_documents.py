"""Every code block of the documents runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import gmmdask
from gmmdask.cli import main
from gmmdask.execution.distributed import local_cluster

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gmmdask.__file__).parent
ANYWHERE = "tcp://scheduler:8786"  # what documents call a scheduler


@dataclass(frozen=True)
class Code:
    """A fenced block: its language, what stands behind that, and its text."""

    language: str
    role: str
    text: str


def blocks(document: str) -> list[Code]:
    found = re.findall(r"^```(\w+) ?(.*?)\n(.*?)^```$", (ROOT / document).read_text(), flags=re.M | re.S)
    return [Code(*block) for block in found]


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


@pytest.mark.parametrize("example", sections("CONTRIBUTING.md"), ids=["family", "algorithm", "source"])
def test_contributing_one_file_and_one_line_are_enough(example: list[Code], tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "gmmdask", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for block in example:
        role, _, name = block.role.partition("=")
        target = tmp_path / name
        if role == "file":
            target.write_text(block.text)
        elif role == "insert":
            head, opening, rest = re.split(r"^([A-Z]+: .*[{\[]\n)", target.read_text(), maxsplit=1, flags=re.M)
            target.write_text(head + opening + block.text + rest)
        elif role == "import":
            head, docstring, rest = target.read_text().split('"""', 2)
            target.write_text(f'{head}"""{docstring}"""\n{block.text}{rest}')
        else:
            (tmp_path / "tests" / "test_example.py").write_text(block.text)
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path, PYTHONPATH=str(tmp_path))


def test_readme_examples_run_in_order(tmp_path: Path) -> None:
    examples = [block for block in blocks("README.md") if "scripts/" not in block.text]
    assert {block.language for block in examples} == {"python", "sh"}
    with local_cluster(2) as cluster:
        address = cluster.client.scheduler.address
        for block in examples:
            text = block.text.replace(ANYWHERE, address)
            command = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euc", text]
            run(command, tmp_path)


def test_the_page_of_exports_runs_as_one_program(tmp_path: Path) -> None:
    run([sys.executable, "-c", "\n".join(block.text for block in blocks("docs/export.md"))], tmp_path)


@pytest.mark.parametrize("document", ["docs/jobs.md", "docs/security.md"])
def test_examples_of_jobs_run_in_order_or_compile(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compile` stands behind the language of those that need packages or machines which are not here."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(document):
        if block.language == "yaml":
            Path(block.role).write_text(block.text)
        elif block.language == "python":
            compile(block.text, document, "exec")
        elif block.role == "compile":
            run(["bash", "-nc", block.text], tmp_path)
        else:
            for line in block.text.splitlines():
                command, *words = shlex.split(line)
                done = CliRunner().invoke(main, words)
                assert (command, done.exit_code) == ("gmmdask", 0), done.stderr


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
