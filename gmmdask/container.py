"""One file: a JSON header and plain arrays, checksummed, without pickle. Models and checkpoints are such files.

Layout: magic (8 bytes), length of the header (8, little endian), SHA-256 of all that follows (32), header, arrays.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"gmmdask\n"
SCHEMA = 1
PREFIX = len(MAGIC) + 8 + 32
DTYPES = ("float64", "float32", "int64", "uint64")
Arrays = dict[str, np.ndarray]


class FileError(ValueError):
    """A model or checkpoint file that cannot be read: says which, why, and what to do."""


def write(path: str | Path, kind: str, content: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes beside the target, flushes to disk, renames: a reader sees the old file or the new one, never a part.

    Parameters
    ----------
    content : JSON value
    arrays : of float64, float32, int64 or uint64

    Raises
    ------
    TypeError
        If an array has another dtype: it could not be read back.
    """
    path = Path(path)
    listing, offset = {}, 0
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES:
            raise TypeError(f"{path}: array {name!r} has dtype {array.dtype}, expected one of {', '.join(DTYPES)}.")
        listing[name] = {"dtype": str(array.dtype), "shape": list(array.shape), "offset": offset}
        offset += array.nbytes
    header = json.dumps({"kind": kind, "schema": SCHEMA, "arrays": listing, "content": content}).encode()
    parts = [header, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(MAGIC + len(header).to_bytes(8, "little") + checksum.digest())
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
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


def read(path: str | Path, kind: str) -> tuple[Any, Arrays]:
    """Content and arrays of a file; sizes are checked before anything of that size is taken.

    Raises
    ------
    FileError
        No file there, not one of ours, of another kind, of a newer schema, truncated or damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            prefix = file.read(PREFIX)
            start = prefix[: len(MAGIC)]
            if start != MAGIC:  # before the rest is read: it may be data of any size
                raise FileError(f"{path}: not a gmmdask file: it begins with {start!r}, expected {MAGIC!r}.")
            data = file.read()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    length = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 8], "little")
    found, written = hashlib.sha256(data).hexdigest(), prefix[PREFIX - 32 :].hex()
    if found != written or length > len(data):
        raise FileError(
            f"{path}: truncated or damaged: its {len(data):,} bytes have the checksum {found[:12]}, written with "
            f"{written[:12] or 'none'} and a header of {length:,} bytes. Use another copy of the file."
        )
    try:
        return _parsed(path, kind, json.loads(data[:length]), memoryview(data)[length:])
    except FileError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FileError(f"{path}: what it says of itself makes no sense ({error!r}). Write the file again.") from error


def _parsed(path: Path, kind: str, header: Any, payload: memoryview) -> tuple[Any, Arrays]:
    if header["schema"] > SCHEMA:
        raise FileError(
            f"{path}: written by a newer gmmdask (schema {header['schema']}, this version reads up to {SCHEMA}). "
            "Install a newer gmmdask."
        )
    if header["kind"] != kind:
        raise FileError(f"{path}: expected a {kind} file, found a {header['kind']} file.")
    return header["content"], _arrays(path, header["arrays"], payload)


def _arrays(path: Path, listing: dict[str, Any], payload: memoryview) -> Arrays:
    arrays: Arrays = {}
    for name, entry in listing.items():
        if entry["dtype"] not in DTYPES:
            raise FileError(
                f"{path}: array {name!r} has dtype {entry['dtype']!r}, expected one of {', '.join(DTYPES)}."
            )
        dtype, shape, start = np.dtype(entry["dtype"]), entry["shape"], entry["offset"]
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if min([*shape, start], default=start) < 0 or start + size > len(payload):
            raise FileError(f"{path}: array {name!r} of shape {shape} does not fit in the file.")
        arrays[name] = np.frombuffer(payload[start : start + size], dtype).reshape(shape).copy()
    return arrays


def pack(value: Any, arrays: Arrays) -> Any:
    """A JSON value for nested frozen dataclasses, enums, containers and arrays; arrays go to `arrays`."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Enum):
        return {"is": type(value).__name__, "name": value.name}
    if is_dataclass(value) and not isinstance(value, type):
        packed = {field.name: pack(getattr(value, field.name), arrays) for field in fields(value)}
        return {"is": type(value).__name__, "fields": packed}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [pack(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": {key: pack(item, arrays) for key, item in value.items()}}
    raise TypeError(f"cannot store a {type(value).__name__} in a file: {value!r}")


def unpack(value: Any, arrays: Arrays, classes: Mapping[str, type]) -> Any:
    """What `pack` was given; dataclasses and enums only of the given `classes`.

    Raises
    ------
    FileError
        If it is not what `pack` of this version would have made.
    """
    try:
        return _unpacked(value, arrays, classes)
    except (LookupError, TypeError) as error:
        raise FileError(f"holds a value that this version of gmmdask does not know ({error!r}).") from error


def _unpacked(value: Any, arrays: Arrays, classes: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "is" in value:
        known = classes.get(value["is"])
        if known is None:
            raise FileError(f"holds a {value['is']!r}, which this version of gmmdask does not know.")
        if "name" in value:
            return known[value["name"]]  # type: ignore[index]
        return known(**{name: _unpacked(item, arrays, classes) for name, item in value["fields"].items()})
    if "tuple" in value:
        return tuple(_unpacked(item, arrays, classes) for item in value["tuple"])
    if "list" in value:
        return [_unpacked(item, arrays, classes) for item in value["list"]]
    return {key: _unpacked(item, arrays, classes) for key, item in value["dict"].items()}
