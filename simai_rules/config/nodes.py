"""Which of a point's nodes a component runs on, as numbers from 0 or names."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from simai_rules.config.base import Says, as_number

Layout = Literal["beside", "apart"]
NODES_TEXT = "all, a number of nodes, a share such as 0.5, or a list of nodes by number (from 0) or name"


def parse_nodes(value: Any) -> Any:
    """Return `value` as `all`, an int >= 1, a float between 0 and 1, or a list of ints and names without repetition."""
    if isinstance(value, list | tuple):
        if not value or not all(_is_node(item) for item in value) or len(set(value)) < len(value):
            raise ValueError(
                f"{list(value)} is no list of nodes, each once, by number from 0 or by name. It takes {NODES_TEXT}"
            )
        return list(value)
    number = value if value == "all" or isinstance(value, bool) else as_number(value)
    whole = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 2**53
    if number == "all" or whole or (isinstance(number, float) and 0 < number < 1):
        return number
    raise ValueError(f"{value!r} is not allowed. It takes {NODES_TEXT}")


def _is_node(item: Any) -> bool:
    return (isinstance(item, int) and not isinstance(item, bool) and item >= 0) or (
        isinstance(item, str) and item != ""
    )


Nodes = Annotated[str | int | float | list[int | str], BeforeValidator(parse_nodes), Says(NODES_TEXT)]


def select_nodes(
    count: int, layout: Layout, wishes: Mapping[str, Any], *, own: bool = False
) -> dict[str, tuple[int | str, ...]]:
    """Return for each component of `wishes` (values as of parse_nodes) its nodes out of 0 … count - 1, in this order.

    beside: a number or share counts from the first node, so components share nodes. apart: no node has two components;
    lists are taken first, then numbers and shares (of all `count` nodes, rounded down, at least one) in the order of
    `wishes`, and what says `all` divides the rest evenly. own: the first node that no list names is nobody's but the
    server's, under the key "server". Raises ValueError with what is asked and what there is.
    """
    lists = {name: wish for name, wish in wishes.items() if isinstance(wish, list)}
    for name, wish in lists.items():
        if beyond := [node for node in wish if isinstance(node, int) and node >= count]:
            raise ValueError(
                f"{name}.nodes names the node {', '.join(map(str, beyond))}, but nodes is {count}: "
                f"their numbers are 0 to {count - 1}"
            )
    listed = {node for wish in lists.values() for node in wish}
    chosen: dict[str, tuple[int | str, ...]] = {name: tuple(_in_order(wish)) for name, wish in lists.items()}
    free = list(range(count))
    if own:
        unnamed = [node for node in free if node not in listed]
        if not unnamed or count == 1:
            raise ValueError(f"staging.server_nodes: own needs a node that no component uses, but nodes is {count}")
        chosen["server"] = (unnamed[0],)
        free.remove(unnamed[0])
    if layout == "beside":
        return chosen | {
            name: tuple(free[: _number(name, wish, count, free)]) for name, wish in wishes.items() if name not in lists
        }
    if sum(map(len, lists.values())) > len(listed):
        raise ValueError("layout: apart gives no node to two components, but their lists of nodes have some in common")
    free = [node for node in free if node not in listed]
    # A node that is listed by its name is one of the free numbers too, but which one is known only in the allocation.
    left = len(free) - sum(isinstance(node, str) for node in listed)
    everything = [name for name, wish in wishes.items() if wish == "all"]
    for name, wish in wishes.items():
        if name in lists or wish == "all":
            continue
        taken = _number(name, wish, count, free[:left])
        chosen[name], free, left = tuple(free[:taken]), free[taken:], left - taken
    if everything:
        if left < len(everything) or left % len(everything):
            half = "half of the nodes" if len(everything) == len(wishes) == 2 else "an equal part of the rest"
            rest = "" if left == count else f", of which {left} are left"
            raise ValueError(f"layout: apart gives each component {half}, but nodes is {count}{rest}")
        part = left // len(everything)
        for position, name in enumerate(everything):
            chosen[name] = tuple(free[position * part : (position + 1) * part])
    return chosen


def numbered(name: str, wish: Any, hosts: Sequence[str]) -> Any:
    """Return `wish`, which is `name`.nodes, with the numbers of listed names among `hosts`; raises ValueError."""
    if not hosts or not isinstance(wish, list):
        return wish
    if unknown := [node for node in wish if isinstance(node, str) and node not in hosts]:
        raise ValueError(f"{name}.nodes names {', '.join(unknown)}, but the nodes of the point are {', '.join(hosts)}")
    numbers = [hosts.index(node) if isinstance(node, str) else node for node in wish]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name}.nodes names a node twice, by number and by name: {wish} of {', '.join(hosts)}")
    return numbers


def _number(name: str, wish: Any, count: int, free: Sequence[int]) -> int:
    """Return how many of the nodes `free` are meant by all, a number, or a share of `count`."""
    number = len(free) if wish == "all" else max(1, math.floor(wish * count + 1e-9)) if wish < 1 else int(wish)
    if number > len(free) or number < 1:
        there = f"nodes is {count}" if len(free) == count else f"of the point's {count} nodes {len(free)} are left"
        raise ValueError(f"{name}.nodes is {wish}, but {there}")
    return number


def _in_order(nodes: Sequence[int | str]) -> list[int | str]:
    return sorted(nodes, key=lambda node: (isinstance(node, str), node))
