"""Where results go: refused before anything is made, replaced only when they are complete."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class OutputError(ValueError):
    """A place that cannot be written: says which, why, and what to do."""


def check_outputs(outputs: Sequence[str | Path], overwrite: bool) -> None:
    """Refuses, before anything is made, names that cannot be written.

    Raises
    ------
    OutputError
        If one is not local, exists and may not be replaced, is a folder other than a Zarr array, or has no folder to
        be in, or if two are the same.
    """
    for name in outputs:
        path = Path(name).resolve()
        if "://" in str(name):
            raise OutputError(f"{name}: expected a local path, found a URL. Write the data set here and copy it there.")
        if not path.parent.is_dir():
            raise OutputError(f"{name}: the folder {path.parent} does not exist. Make it first.")
        if path.exists() and not overwrite:
            raise OutputError(
                f"{name}: exists already. Choose another name, or replace it with overwrite=True (--overwrite)."
            )
        if path.is_dir():
            check_is_zarr(path)
    if len({Path(name).resolve() for name in outputs}) < len(outputs):
        raise OutputError(f"{outputs[0]}: two outputs have this name. Give each its own.")


def check_is_zarr(path: Path) -> None:
    """A folder is only replaced if it is a Zarr array or group: another one may hold anything."""
    if not any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise OutputError(f"{path}: a folder that is no Zarr array or group is not replaced. Use another name.")


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
