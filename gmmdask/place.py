"""A path or a URL, what opens it, and one file there: read, or written as a whole."""

import io
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

import fsspec

from gmmdask.storage import Entrusted, NotEntrustedError, StorageError, patiently

SECRETS = ("signature", "sig", "token", "secret", "password", "credential", "accesskey", "apikey")  # in queries of URLs


class PlaceError(ValueError):
    """A place behind a URL that cannot be read or written: a wrong address, or no rights."""


class Place:
    """A path or URL, and the storage options that open it, which are shown and stored nowhere.

    It goes wherever a path does: as data, as `checkpoint=`, to `save` and `load`.

    Parameters
    ----------
    url : path, or any URL of fsspec.
    storage_options : of the URL's file system in fsspec, such as `{"key": ..., "secret": ..., "endpoint_url": ...}`.

    Raises
    ------
    ValueError
        If the URL itself holds a credential, or options are given for a path.
    """

    def __init__(self, url: "str | Path | Place", storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = str(url)
        self.entrusted: Entrusted | None = url.entrusted if isinstance(url, Place) else None
        if storage_options:
            self.entrusted = Entrusted(dict(storage_options))
        if is_url(self.url):
            refuse_credentials(self.url)
        if self.entrusted is not None and self.local is not None:
            raise ValueError(f"{self}: storage options belong to URLs, such as s3://bucket/name. Leave them out.")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Place({self.url!r})"

    @property
    def local(self) -> Path | None:
        """The path on this machine; None for what is elsewhere."""
        bare = self.url.removeprefix("file://")
        return None if is_url(bare) else Path(bare)

    def beside(self, ending: str) -> "Place":
        """The place of the same name with an ending."""
        place = Place(self)
        place.url += ending
        return place

    def below(self, name: str) -> "Place":
        """The place of this name in the folder that this one is."""
        place = Place(self)
        place.url = f"{self.url.rstrip('/')}/{name}"
        return place

    @property
    def options(self) -> dict[str, Any] | None:
        """The storage options, to be handed on at once to what opens the URL; None if there are none."""
        return None if self.entrusted is None else dict(self.entrusted.value)

    def system(self) -> tuple[Any, str]:
        """The file system of fsspec, as it is now, and the path in it."""
        system, path = open_system(self.url, self.entrusted)
        system.invalidate_cache()  # what was there a moment ago is not the question
        return system, path

    def exists(self) -> bool:
        """Whether there is a file now."""
        if self.local is not None:
            return self.local.exists()
        with reaching(self):
            system, path = self.system()
            return bool(patiently(lambda: system.exists(path), str(self)))

    def open(self, begins: bytes) -> BinaryIO:
        """The file, to be read. From elsewhere it is fetched, but only its first bytes if they are not those named."""
        if self.local is not None:
            return open(self.local, "rb")
        system, path = self.system()

        def fetched() -> bytes:
            head = bytes(system.cat_file(path, start=0, end=len(begins)))
            return bytes(system.cat_file(path)) if head == begins else head

        return io.BytesIO(patiently(fetched, str(self)))

    def write(self, parts: Sequence[bytes], previous: "Place | None" = None) -> None:
        """Puts a file there: a reader sees the old one or the new one, never a part. The old one goes to `previous`.

        Raises
        ------
        StorageError, PlaceError
            If it cannot be written, for a while or at all; what was there is kept.
        """
        if self.local is None:
            self._put(b"".join(parts), previous)
            return
        try:
            write_beside(self.local, parts, None if previous is None else previous.local)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except OSError as error:
            raise StorageError(
                f"{self}: cannot be written ({error.strerror or error}). What was there before is kept. Make room, or "
                "check the rights, and try again; or choose another place."
            ) from error

    def _put(self, data: bytes, previous: "Place | None") -> None:
        with reaching(self):
            system, path = self.system()

            def put() -> None:
                if previous is not None and system.exists(path):
                    system.cp_file(path, previous.system()[1])
                system.pipe_file(path, data)  # one request: it is there as a whole, or not at all

            patiently(put, str(self), done="written")


@contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Errors of a file system, which have no class in common, become a PlaceError."""
    try:
        yield
    except (StorageError, NotEntrustedError, ImportError):
        raise
    except Exception as error:
        raise PlaceError(
            f"{place}: cannot be reached ({type(error).__name__}: {error}). Check the address, the rights and the "
            "credentials."
        ) from error


def is_url(path: object) -> bool:
    return "://" in str(path)


def open_system(url: str, entrusted: Entrusted | None = None) -> tuple[Any, str]:
    """The file system of fsspec that a path or URL is in, opened with entrusted options; and the path in it.

    Raises
    ------
    ImportError
        If the package that opens such URLs is not installed: names the extra.
    """
    try:
        return fsspec.url_to_fs(url, **({} if entrusted is None else entrusted.value))
    except ImportError as error:
        raise missing_package(url, error) from error


def missing_package(url: str, error: ImportError) -> ImportError:
    """What to do where the package that opens a URL is not installed."""
    remedy = '. Install it with: pip install "gmmdask[s3]"' if "s3://" in url or "s3a://" in url else ""
    return ImportError(f"{url}: a package that opens such URLs is missing ({error}){remedy}")


def refuse_credentials(url: str) -> None:
    """Refuses a URL that holds a password or a signature: addresses are written into models, logs and messages."""
    for split in map(urlsplit, url.split("::")):
        names = [name for name, _ in parse_qsl(split.query) if re.sub("[-_]", "", name).lower().endswith(SECRETS)]
        if split.password is not None or names:
            what = f"a credential ({', '.join(names)})" if names else "a password"
            raise ValueError(
                f"{split.scheme}://{split.hostname}{split.path}: the URL holds {what}, and URLs are written into "
                "models and messages. Give it without, and the credential by storage_options={...} or the environment."
            )


def write_beside(path: Path, parts: Sequence[bytes], previous: Path | None) -> None:
    """Writes beside the target, flushes to disk, renames what is there, then the new file."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(beside, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in it last, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
