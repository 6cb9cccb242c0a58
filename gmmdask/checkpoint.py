"""A fit under way <-> one file, atomically; the last two are kept."""

import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmmdask import container
from gmmdask.container import FileError
from gmmdask.execution import setting
from gmmdask.place import Place


class Checkpoint:
    """Where a fit saves itself.

    Parameters
    ----------
    path : file or URL to write; the one before it stays beside it as PATH.previous.
    classes : names and types of the frozen values that may be in it.
    resume : whether an existing file is continued; without it, one is an error.

    Raises
    ------
    FileExistsError
        If there is a checkpoint and `resume` is false.
    FileError
        If the folder does not exist or cannot be written to, or neither file can be read.

    Attributes
    ----------
    kept : str
        The file that the fit can go on from: the one that was read or written last. "" where there is none.
    """

    def __init__(self, path: str | Path | Place, classes: Mapping[str, type], resume: bool) -> None:
        self.path, self.classes = Place(path), classes
        self.previous = self.path.beside(".previous")
        self.resume, self.damaged, self.kept, self.written = resume, "", "", -float("inf")
        check_folder(self.path)
        found = [str(path) for path in (self.path, self.previous) if path.exists()]
        if found and not resume:
            raise FileExistsError(
                f"checkpoint {found[0]} exists: if an earlier fit wrote it, continue that with resume=True (--resume), "
                f"or remove {' and '.join(found)}. If it is something else, name another file."
            )

    def load(self) -> Any:
        """The newest value that can be read, None if there is no file. Falls back to the older one with a warning."""
        if not self.resume:
            return None
        problems = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                found = container.unpack(*container.read(path, "checkpoint"), self.classes)
                self.kept = str(path)
                return found
            except FileError as error:
                problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                if path is self.path:
                    self.damaged = f"{problems[-1]} Going on from {self.previous}."
                    if self.previous.exists():
                        warnings.warn(self.damaged, stacklevel=2)
        if problems:
            raise FileError(f"no checkpoint can be read: {' '.join(problems)}")
        return None

    def save(self, value: Any, now: bool = False) -> bool:
        """Writes, unless it did less than `gmmdask.checkpoint-interval` seconds ago; tells whether it has written.

        Raises
        ------
        StorageError
            If it cannot be written: those that were there stay.
        """
        if not now and time.monotonic() - self.written < setting("checkpoint-interval"):
            return False
        arrays: container.Arrays = {}
        content = container.pack(value, arrays)
        previous = None if self.damaged else self.previous
        container.write(self.path, "checkpoint", content, arrays, previous)
        self.damaged, self.kept, self.written = "", str(self.path), time.monotonic()
        return True


def check_folder(place: Place) -> None:
    """Refuses a checkpoint on this machine whose folder is not there or is read-only, before hours are spent."""
    if place.local is None:
        return
    folder = place.local.parent
    if not folder.is_dir():
        raise FileError(f"checkpoint {place}: there is no folder {folder}. Make it first.")
    if not os.access(folder, os.W_OK):
        raise FileError(f"checkpoint {place}: the folder {folder} cannot be written to. Choose another, or its rights.")
