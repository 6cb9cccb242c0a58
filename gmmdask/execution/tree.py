"""Sums of many things by a tree of fixed shape: who ran what where never decides what is added to what."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from dask._task_spec import List, Task, TaskRef

FAN_IN = 8


def add(values: Sequence[Any]) -> Any:
    """Left to right: floating-point addition has an order, and this is it."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def tree(leaves: Mapping[int, Sequence[Hashable]], name: str) -> tuple[dict[Hashable, Any], Hashable]:
    """Tasks (name, level, group) that add leaves, by a tree of fixed fan-in over the plan's part numbers; and its root.

    A part may have several leaves (slices of it), which are added first. Parts that are missing are skipped, not
    closed up, so that what is added to what never depends on company.
    """
    graph: dict[Hashable, Any] = {}
    level, groups = 0, {index: list(leaves[index]) for index in sorted(leaves)}
    while len(groups) > 1 or level == 0 or len(next(iter(groups.values()))) > 1:
        above: dict[int, list[Hashable]] = {}
        for group, members in groups.items():
            key: Hashable = members[0]
            if len(members) > 1:
                key = (name, level, group)
                graph[key] = Task(key, add, List(*(TaskRef(member) for member in members)))
            above.setdefault(group // FAN_IN, []).append(key)
        level, groups = level + 1, above
    return graph, next(iter(groups.values()))[0]
