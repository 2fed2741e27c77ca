"""Slurm's way to write many node names, `n[1-4,7],x[001-003]-y[1-2]`, as a list of names."""

import itertools
import math
import re

from simai_rules.errors import UserError

MOST_NODES = 100_000
_NAME = re.compile(r"(?:[^,\[\]\s]|\[[^\[\]]*\])+")


def expand_nodelist(text: str) -> tuple[str, ...]:
    """Return the names in a node list of Slurm, each once, in its order: of several brackets the last runs fastest.

    A range keeps the leading zeros of its first number. Raises UserError that names the part which is none.
    """
    names: list[str] = []
    position = 0
    while position < len(text):
        match = _NAME.match(text, position)
        if match is None:
            raise UserError(f"{text!r} is no list of nodes as Slurm writes it, from {text[position:]!r} on.")
        parts = re.split(r"\[([^\[\]]*)\]", match[0])
        choices = [_ranges(part, text) if number % 2 else [part] for number, part in enumerate(parts)]
        if math.prod(map(len, choices)) > MOST_NODES:
            raise UserError(f"{text!r} is no list of nodes: {match[0]!r} stands for more than {MOST_NODES} names.")
        names += ["".join(chosen) for chosen in itertools.product(*choices)]
        position = match.end()
        if position < len(text) and (text[position] != "," or position + 1 == len(text)):
            raise UserError(f"{text!r} is no list of nodes as Slurm writes it, from {text[position:]!r} on.")
        position += 1
    if not names:
        raise UserError("The list of nodes of this Slurm job is empty.")
    return tuple(dict.fromkeys(names))


def _ranges(inside: str, text: str) -> list[str]:
    """Return `1-3,07` as 1, 2, 3, 07."""
    found: list[str] = []
    for piece in inside.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match is None or last < first or last - first >= MOST_NODES:
            raise UserError(f"{text!r} is no list of nodes as Slurm writes it: {piece!r} is no number and no range.")
        found += [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    return found
