"""Where results go: refused before anything is made, replaced only when they are complete."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gmmdask.place import Place, reaching
from gmmdask.storage import patiently

HEADER = "zarr.json"  # of an array or group of Zarr, format 3
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


def check_group(place: Place, overwrite: bool, inputs: Sequence[str]) -> None:
    """Refuses, before anything is made, a place where no Zarr group can be written; `inputs` are read meanwhile.

    Raises
    ------
    OutputError
        As of `check_outputs`, for paths and URLs.
    """
    if place.local is not None:
        check_outputs([place.local], overwrite, inputs, folders=True)
        return
    target = f"{place.url.rstrip('/')}/"
    if any(target.startswith(f"{name.rstrip('/')}/") or name.startswith(target) for name in inputs):
        raise OutputError(f"{place}: this is where the input is read from. Choose another name.")
    if place.exists():
        if not overwrite:
            raise OutputError(
                f"{place}: exists already. Choose another name, or replace it with overwrite=True (--overwrite)."
            )
        check_replaceable(place)


def check_replaceable(folder: Path | Place) -> None:
    """A folder is only replaced if it is a Zarr array, or a group of predictions: another one may hold anything."""
    ours = header_of(folder).get("node_type") == "array" or marker_of(folder) is not None
    if not ours and not Place(folder).below(".zarray").exists():
        raise OutputError(
            f"{folder}: a folder that is neither a Zarr array nor an earlier output of gmmdask is not replaced. Use "
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


def header_of(folder: Path | Place) -> dict[str, Any]:
    """The metadata of a Zarr array or group of format 3; nothing if there is none."""
    try:
        with Place(folder).below(HEADER).open(b"{") as file:
            found = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def marker_of(folder: Path | Place) -> dict[str, Any] | None:
    """What a group of predictions says of itself; None if it is none."""
    attributes = header_of(folder).get("attributes")
    found = attributes.get(MARK) if isinstance(attributes, dict) else None
    return found if isinstance(found, dict) else None


def partial_place(place: Place) -> tuple[Place, Place]:
    """Where an output is made that another run can go on with, and the hidden folder of a fixed name around it."""
    if place.local is not None:
        place = Place(place.local.resolve())
    folder, _, name = place.url.rstrip("/").rpartition("/")
    beside = Place(place)
    beside.url = f"{folder}/.{name}.partial"
    return beside.below(name), beside


def remove(folder: Place) -> None:
    """A folder and all in it; nothing if it is not there."""
    if folder.local is not None:
        if folder.local.exists():
            shutil.rmtree(folder.local)
        return
    with reaching(folder):
        system, path = folder.system()
        if patiently(lambda: system.exists(path), str(folder)):
            patiently(lambda: system.rm(path, recursive=True), str(folder), done="removed")


def put_in_place(new: Place, place: Place) -> None:
    """Brings a Zarr group to its place: renamed, or behind a URL copied by the store, with what makes it a group last.

    An interruption behind a URL leaves the new one whole, so that this can be done again.
    """
    if new.local is not None and place.local is not None:
        for stray in new.local.rglob("*.partial"):  # a write that was killed
            stray.unlink()
        replace(new.local, place.local.resolve())
        return
    remove(place)
    with reaching(place):
        (system, source), (_, target) = new.system(), place.system()
        names = [name[len(source) :] for name in patiently(lambda: system.find(source), str(new))]
        headers = sorted((name for name in names if name.endswith(f"/{HEADER}")), key=len, reverse=True)
        for some in (sorted(set(names) - set(headers)), *([header] for header in headers)):
            pairs = [source + name for name in some], [target + name for name in some]
            patiently(partial(system.copy, *pairs), str(place), done="written")


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
