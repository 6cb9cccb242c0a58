"""Sums of many things by a tree of fixed shape: who ran what where never decides what is added to what."""

from collections.abc import Hashable, Sequence
from typing import Any

from dask._task_spec import List, Task, TaskRef

FAN_IN = 8


def add(values: Sequence[Any]) -> Any:
    """Left to right: floating-point addition has an order, and this is it."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def tree(leaves: dict[int, Hashable], prefix: str) -> tuple[dict[Hashable, Any], Hashable]:
    """Tasks that add leaves, by a tree of fixed fan-in over the plan's part numbers; and the key of the root.

    Parts that are missing are skipped, not closed up, so that what is added to what never depends on company.
    """
    graph: dict[Hashable, Any] = {}
    level = 0
    while len(leaves) > 1 or level == 0:
        level += 1
        groups: dict[int, list[Hashable]] = {}
        for index in sorted(leaves):
            groups.setdefault(index // FAN_IN, []).append(leaves[index])
        leaves = {}
        for group, members in groups.items():
            key = f"{prefix}-add-{level}-{group}"
            graph[key] = Task(key, add, List(*(TaskRef(member) for member in members)))
            leaves[group] = key
    return graph, next(iter(leaves.values()))
