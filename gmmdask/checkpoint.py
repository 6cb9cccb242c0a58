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


class Checkpoint:
    """Where a fit saves itself.

    Parameters
    ----------
    path : file to write; the one before it stays beside it as PATH.previous.
    classes : names and types of the frozen values that may be in it.
    resume : whether an existing file is continued; without it, one is an error.

    Raises
    ------
    FileExistsError
        If there is a checkpoint and `resume` is false.
    FileError
        If the folder does not exist, or neither file can be read.
    """

    def __init__(self, path: str | Path, classes: Mapping[str, type], resume: bool) -> None:
        self.path, self.classes = Path(path), classes
        self.previous = self.path.with_name(self.path.name + ".previous")
        self.resume, self.damaged, self.written = resume, "", -float("inf")
        if not self.path.parent.is_dir():
            raise FileError(f"checkpoint {self.path}: there is no folder {self.path.parent}. Make it first.")
        found = [str(path) for path in (self.path, self.previous) if path.exists()]
        if found and not resume:
            raise FileExistsError(
                f"checkpoint {found[0]} exists: an earlier fit was interrupted or has ended. Continue it with "
                f"resume=True (--resume), or remove {' and '.join(found)}."
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
                content, arrays = container.read(path, "checkpoint")
                return container.unpack(content, arrays, self.classes)
            except FileError as error:
                problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                if path == self.path:
                    self.damaged = f"{problems[-1]} Going on from {self.previous}."
                    if self.previous.exists():
                        warnings.warn(self.damaged, stacklevel=2)
        if problems:
            raise FileError(f"no checkpoint can be read: {' '.join(problems)}")
        return None

    def save(self, value: Any, now: bool = False) -> bool:
        """Writes, unless it did less than `gmmdask.checkpoint-interval` seconds ago; tells whether it has written."""
        if not now and time.monotonic() - self.written < setting("checkpoint-interval"):
            return False
        arrays: container.Arrays = {}
        content = container.pack(value, arrays)
        if self.path.exists() and not self.damaged:
            os.replace(self.path, self.previous)
        container.write(self.path, "checkpoint", content, arrays)
        self.damaged, self.written = "", time.monotonic()
        return True
