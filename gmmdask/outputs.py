"""Where results go: refused before anything is made, replaced only when they are complete."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gmmdask.place import Place

MARK = "gmmdask"  # attribute of the Zarr groups that this package writes


class OutputError(ValueError):
    """A place that cannot be written: says which, why, and what to do."""


def check_outputs(
    outputs: Sequence[str | Path], overwrite: bool, inputs: Sequence[str] = (), folders: bool = False
) -> None:
    """Refuses, before anything is made, names that cannot be written.

    Parameters
    ----------
    inputs : addresses that are read while the outputs are made.
    folders : whether the outputs are folders.

    Raises
    ------
    OutputError
        If one is not local, exists and may not be replaced, is a folder with other things in it, or has no folder to
        be in, or if two are the same, or one is, holds or lies in one of the `inputs`.
    """
    read = [Path(name.removeprefix("file://")).resolve() for name in inputs]
    for name in outputs:
        path = Path(name).resolve()
        if "://" in str(name):
            raise OutputError(f"{name}: expected a local path, found a URL. Write the data set here and copy it there.")
        if not path.parent.is_dir():
            raise OutputError(f"{name}: the folder {path.parent} does not exist. Make it first.")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{name}: the folder {path.parent} cannot be written to. Choose another, or its rights.")
        if any(path == given or path in given.parents or given in path.parents for given in read):
            raise OutputError(f"{name}: this is where the input is read from. Choose another name.")
        if path.exists() and not overwrite:
            raise OutputError(
                f"{name}: exists already. Choose another name, or replace it with overwrite=True (--overwrite)."
            )
        if folders and path.is_file():
            raise OutputError(f"{name}: a file is not replaced by a folder. Use another name, or remove it yourself.")
        if path.is_dir():
            check_replaceable(path)
    if len({Path(name).resolve() for name in outputs}) < len(outputs):
        raise OutputError(f"{outputs[0]}: two outputs have this name. Give each its own.")


def check_url(url: str, overwrite: bool) -> None:
    """Refuses the URL of a file that exists and may not be replaced, or that cannot be looked for."""
    if Place(url).exists() and not overwrite:
        raise OutputError(f"{url}: exists already. Choose another name, or replace it (--overwrite).")


def check_replaceable(path: Path) -> None:
    """A folder is only replaced if it is a Zarr array, or a group of predictions: another one may hold anything."""
    ours = header_of(path).get("node_type") == "array" or marker_of(path) is not None
    if not ours and not (path / ".zarray").is_file():
        raise OutputError(
            f"{path}: a folder that is neither a Zarr array nor an earlier output of gmmdask is not replaced. Use "
            "another name, or remove it yourself."
        )


@contextmanager
def replacing(outputs: Sequence[str | Path]) -> Iterator[list[Path]]:
    """Temporary names of the outputs, in hidden folders beside them, that take their places when the block succeeds."""
    with ExitStack() as folders:
        targets = [Path(name).resolve() for name in outputs]
        places = []
        for path in targets:
            folder = TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True)
            places.append(Path(folders.enter_context(folder)) / path.name)
        yield places
        for place, path in zip(places, targets, strict=True):
            replace(place, path)


def header_of(folder: Path) -> dict[str, Any]:
    """The metadata of a Zarr array or group of format 3; nothing if there is none."""
    try:
        found = json.loads((folder / "zarr.json").read_text())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def marker_of(folder: Path) -> dict[str, Any] | None:
    """What a group of predictions says of itself; None if it is none."""
    attributes = header_of(folder).get("attributes")
    found = attributes.get(MARK) if isinstance(attributes, dict) else None
    return found if isinstance(found, dict) else None


def partial_place(path: str | Path) -> Path:
    """Where an output is made that an interrupted run can go on with: a hidden folder beside it, of a fixed name."""
    target = Path(path).resolve()
    return target.parent / f".{target.name}.partial" / target.name


def replace(new: Path, path: Path) -> None:
    """Renames `new` to `path`. A folder there cannot be renamed over: it steps aside, and comes back on failure."""
    if not path.is_dir():
        os.replace(new, path)
        return
    aside = new.with_name(f"{new.name}.old")
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(aside, path)
        raise
