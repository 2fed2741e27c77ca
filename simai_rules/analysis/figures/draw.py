"""All figures of an experiment, drawn and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simai_rules.analysis.figures import kernels, steps, throughput, timeline
from simai_rules.analysis.figures.style import Drawing, drawing_style, save
from simai_rules.analysis.grid import grids
from simai_rules.analysis.results import PointResult
from simai_rules.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from simai_rules.analysis.grid import Grid

_OF_A_GRID: dict[str, Callable[[Grid, str], Drawing | None]] = {"throughput": throughput.draw, "steps": steps.draw}


def draw_all(results: Sequence[PointResult]) -> list[Drawing]:
    """Draw `throughput` and `steps` for each setting of the further axes, `kernels`, and the `timeline` of one point.

    The figures of the first setting have the plain names; those of the second end in `-2`, and so on. A figure that
    has nothing to show is left out.
    """
    drawings = []
    for number, grid in enumerate(grids(results), start=1):
        for plain, draw in _OF_A_GRID.items():
            name = plain if number == 1 else f"{plain}-{number}"
            with drawing_style(name):
                drawings.append(draw(grid, name))
    drawings += kernels.draw_each(grids(results))
    chosen = timeline.choose(list(results))
    if chosen is not None:
        with drawing_style("timeline"):
            drawings.append(timeline.draw(chosen, "timeline"))
    return [drawing for drawing in drawings if drawing is not None]


def save_all(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Save the figures as SVG and PNG and remove those of an earlier call that were not drawn this time.

    Raises UserError where the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder}: {error.strerror}. Check its permissions.") from error
    for drawing in drawings:
        with drawing_style(drawing.name):
            written += save(drawing, folder)
    for plain in (*_OF_A_GRID, "kernels", "timeline"):
        for old in {*folder.glob(f"{plain}.*"), *folder.glob(f"{plain}-[0-9]*.*")} - set(written):
            try:
                old.unlink()
            except OSError as error:
                raise UserError(f"Cannot remove the outdated figure {old}: {error.strerror}") from error
    return written
