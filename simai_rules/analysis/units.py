"""Numbers as people read them."""

from __future__ import annotations


def size_text(nbytes: float) -> str:
    """Write a number of bytes with a decimal unit: 40 KB, 2.5 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.3g} {unit}"
    return f"{nbytes:g} B"


def time_text(seconds: float) -> str:
    """Write a duration with three digits: 1.23 s, 45.6 ms, 789 µs."""
    if abs(seconds) >= 1:
        return _three_digits(seconds, "s")
    return _three_digits(seconds * 1e3, "ms") if abs(seconds) >= 1e-3 else _three_digits(seconds * 1e6, "µs")


def _three_digits(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:#.3g} {unit}"


def number_text(value: float) -> str:
    """Write a number with three digits, or as a whole one: 0.123, 45.6, 7,890."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def listing(items: list[str], most: int = 8) -> str:
    """Join items by commas, naming at most `most` of them and counting the rest."""
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
