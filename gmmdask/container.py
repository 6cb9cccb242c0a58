"""One file: a JSON header and plain arrays, checksummed, without pickle. Models and checkpoints are such files.

Layout: magic (8 bytes), length of the header (8, little endian), SHA-256 of all that follows (32), header, arrays.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gmmdask.conform import misfits
from gmmdask.place import Place
from gmmdask.storage import NotEntrustedError, StorageError

MAGIC = b"gmmdask\n"
SCHEMA = 2  # 2: mixtures with noise
PREFIX = len(MAGIC) + 8 + 32
BLOCK = 1 << 20
MOST_EMPTY = 1 << 20  # rows or columns of an array without numbers
DTYPES = ("float64", "float32", "int64", "uint64")
Arrays = dict[str, np.ndarray]


class FileError(ValueError):
    """A model or checkpoint file that cannot be read: says which, why, and what to do."""


def write(
    path: str | Path | Place,
    kind: str,
    content: Any,
    arrays: Mapping[str, np.ndarray],
    previous: Place | None = None,
    schema: int = 1,
) -> None:
    """Writes a whole file or none; one that is there goes to `previous`, or is replaced. See `Place.write`.

    Parameters
    ----------
    content : JSON value
    arrays : of float64, float32, int64 or uint64
    schema : the first that could say all of it: older versions read what they can, and refuse what they would lose.

    Raises
    ------
    TypeError
        If an array has another dtype: it could not be read back.
    StorageError
        If it cannot be written; what was there is kept.
    """
    listing, offset = {}, 0
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES:
            raise TypeError(f"{path}: array {name!r} has dtype {array.dtype}, expected one of {', '.join(DTYPES)}.")
        listing[name] = {"dtype": str(array.dtype), "shape": list(array.shape), "offset": offset}
        offset += array.nbytes
    header = json.dumps({"kind": kind, "schema": schema, "arrays": listing, "content": content}).encode()
    parts = [header, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    prefix = MAGIC + len(header).to_bytes(8, "little") + checksum.digest()
    Place(path).write([prefix, *parts], previous)


def read(path: str | Path | Place, kind: str) -> tuple[Any, Arrays]:
    """Content and arrays of a file; sizes and checksum are checked before anything of that size is taken.

    Raises
    ------
    FileError
        If it cannot be opened, is not such a file, is damaged, or is of a newer version.
    StorageError
        If the storage that it is on does not answer.
    """
    place = Place(path)
    try:
        with place.open(MAGIC) as file:
            header, payload = _checked(path, file)
    except (StorageError, FileError, ImportError, NotEntrustedError):
        raise
    except Exception as error:  # those of file systems behind URLs have no class in common
        raise FileError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error!r}).") from error
    try:
        if not header.endswith(b"}"):  # the checksum is not of its length
            raise ValueError(f"a header of {len(header)} bytes")
        return _parsed(path, kind, json.loads(header), memoryview(payload))
    except FileError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FileError(f"{path}: what it says of itself makes no sense ({error!r}). Write the file again.") from error


def _checked(path: object, file: BinaryIO) -> tuple[bytes, bytes]:
    """Header and payload of an opened file, once its checksum is found right, block by block."""
    prefix = file.read(PREFIX)
    if not prefix.startswith(MAGIC):
        raise FileError(f"{path}: not a gmmdask file: it begins with {prefix[:8]!r}, expected {MAGIC!r}.")
    length = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 8], "little")
    checksum, size = hashlib.sha256(), 0
    while block := file.read(BLOCK):
        checksum.update(block)
        size += len(block)
    found, written = checksum.hexdigest(), prefix[PREFIX - 32 :].hex()
    if found != written or length > size:
        raise FileError(
            f"{path}: truncated or damaged: its {size:,} bytes have the checksum {found[:12]}, written with "
            f"{written[:12] or 'none'} and a header of {length:,} bytes. Use another copy of the file."
        )
    file.seek(PREFIX)
    return file.read(length), file.read()


def _parsed(path: object, kind: str, header: Any, payload: memoryview) -> tuple[Any, Arrays]:
    if header["schema"] > SCHEMA:
        raise FileError(
            f"{path}: written by a newer gmmdask (schema {header['schema']}, this version reads up to {SCHEMA}). "
            "Install a newer gmmdask."
        )
    if header["kind"] != kind:
        raise FileError(f"{path}: expected a {kind} file, found a {header['kind']} file.")
    return header["content"], _arrays(path, header["arrays"], payload)


def _arrays(path: object, listing: dict[str, Any], payload: memoryview) -> Arrays:
    arrays: Arrays = {}
    total = 0
    for name, entry in listing.items():
        if entry["dtype"] not in DTYPES:
            raise FileError(
                f"{path}: array {name!r} has dtype {entry['dtype']!r}, expected one of {', '.join(DTYPES)}."
            )
        dtype, shape, start = np.dtype(entry["dtype"]), entry["shape"], entry["offset"]
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        total += size  # arrays that share bytes would make much of a small file
        sizes = [*shape, start, 0]
        if min(sizes) < 0 or max(start + size, total, max(sizes) - MOST_EMPTY) > len(payload):
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
        made = known(**{name: _unpacked(item, arrays, classes) for name, item in value["fields"].items()})
        if wrong := misfits(made):
            raise FileError(f"holds a {value['is']} whose {', '.join(wrong)} is of another type than this version's.")
        if not getattr(made, "fits", True):
            raise FileError(f"holds a {value['is']} whose arrays do not fit together.")
        return made
    if "tuple" in value:
        return tuple(_unpacked(item, arrays, classes) for item in value["tuple"])
    if "list" in value:
        return [_unpacked(item, arrays, classes) for item in value["list"]]
    return {key: _unpacked(item, arrays, classes) for key, item in value["dict"].items()}
