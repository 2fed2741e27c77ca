"""`simai-rules placement`: where the ranks of a point run."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simai_rules.errors import UserError

if TYPE_CHECKING:
    from simai_rules.config.experiment import Point
    from simai_rules.launch.placement import Placement

HELP = """Draw the placement of a point as a table: for every node, the ranks with their cores and GPUs, and the server.

POINT is a point.json, or a config.yaml: then every placement that its points have is drawn once, on the machine of
--profile or else the config's system. Without --hosts the nodes are called node0, node1, ... Nothing is started."""
Row = tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the point and its nodes."""
    parser.add_argument("point", type=Path, metavar="POINT", help="point.json of a point, or config.yaml of a sweep")
    parser.add_argument(
        "--profile", metavar="NAME", help="a profile, as snakemake would be given it, or one that is shipped"
    )
    parser.add_argument("--hosts", metavar="A,B", help="the names of the point's nodes, in the order of the allocation")


def run(args: argparse.Namespace) -> int:
    """Print a table for each placement."""
    from simai_rules.launch.placement import made_up_hosts, place

    hosts = tuple(host.strip() for host in args.hosts.split(",") if host.strip()) if args.hosts else ()
    if len(set(hosts)) < len(hosts):
        raise UserError(f"--hosts {args.hosts} names a node twice")
    drawn: dict[str, list[Point]] = {}
    for point in _points(args.point, args.profile):
        names = hosts or made_up_hosts(point)
        drawn.setdefault("\n".join(_table(place(point, names), names)), []).append(point)
    for number, (table, points) in enumerate(drawn.items()):
        first = points[0]
        more = f" and {len(points) - 1} more points" if len(points) > 1 else ""
        gpus = f" (GPUs by {first.system.gpu_variable})" if first.system.gpus else ""
        blank = "\n" if number else ""
        print(f"{blank}{first.path}{more} on {first.system.name}{gpus}\n{table}")
    return 0


def _points(file: Path, profile: str | None) -> list["Point"]:
    if file.suffix in (".yaml", ".yml"):
        from simai_rules.config.profile import find_profile, load_with_profile

        return list(load_with_profile(file, find_profile(profile) if profile else None).points.values())
    if profile:
        raise UserError(f"--profile goes with a config.yaml; {file} says itself which machine it is for.")
    from simai_rules.config.points import read_point

    return [read_point(file)]


def _table(placements: dict[str, "Placement"], hosts: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the table: nodes in the order of `hosts`, on each the components with their ranks."""
    rows: list[Row] = [("node", "component", "rank", "cores", "GPU")]
    used = {host for placement in placements.values() for host in placement.hosts}
    for node in (host for host in hosts if host in used):
        block = [row for placement in placements.values() if node in placement.hosts for row in _rows(node, placement)]
        rows += [(row[0] if position == 0 else "", *row[1:]) for position, row in enumerate(block)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        node, component, rank, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([node, component, row[2].rjust(len(rank)), *rest]).rstrip()
    if any(placement.shared and any(placement.cores) for placement in placements.values()):
        yield "Ranks share cores: there are fewer than they ask for. Times include waiting for a core."


def _rows(node: str, placement: "Placement") -> Iterator[Row]:
    from simai_rules.config.ranges import ranges_text

    for local, own in enumerate(placement.cores):
        rank = placement.hosts.index(node) * placement.ranks_per_node + local
        gpus = ",".join(placement.gpus[local]) if placement.gpus else ""
        cores = ranges_text(own) if own else "none of its own"
        yield node, placement.component, "" if placement.component == "server" else str(rank), cores, gpus or "-"
