"""Ordering by dependency."""

from __future__ import annotations


def topological_sort(dependencies: dict[str, list[str]]) -> list[str]:
    """Names so that each comes after those it depends on, else in the given order.

    Cycles are cut, unknown names passed over.
    """
    done: dict[str, bool] = {}
    result: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in dependencies:
            return
        done[name] = True
        for other in dependencies[name]:
            visit(other)
        result.append(name)

    for name in dependencies:
        visit(name)
    return result
