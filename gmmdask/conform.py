"""Whether a value is what a type hint says: what comes out of a file is checked before it is believed."""

from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np


def misfits(value: Any) -> list[str]:
    """Names of a dataclass instance's fields whose values are not what their hints say."""
    hints: dict[str, Any] = hints_of(type(value))  # type: ignore[arg-type]
    return [
        field.name for field in fields(value) if not conforms(getattr(value, field.name), hints.get(field.name, Any))
    ]


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # of an algorithm elsewhere, whose hints are for type checkers only
        return {}


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is of a hint's type: arrays of its dtype, containers by what is in them."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(conforms(value, one) for one in inner)
    if origin is np.ndarray:
        scalar = get_args(inner[1])
        return isinstance(value, np.ndarray) and (scalar in ((), (Any,)) or value.dtype == scalar[0])
    if origin is tuple and inner[-1:] != (...,):
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(conforms, value, inner))
    if origin in (tuple, list):
        return isinstance(value, origin) and all(conforms(item, inner[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(conforms(item, inner[1]) for item in value.values())
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if hint is None:
        return value is None
    return isinstance(value, hint) if isinstance(hint, type) else True
