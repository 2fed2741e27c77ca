"""Where the shipped folders are: at the top of the repository in a checkout, inside the package when installed."""

from pathlib import Path

from simai_rules.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the folder or file `name` (such as `templates/report.html.j2`) of this installation.

    Raises UserError where the installation lacks it.
    """
    for root in (_PACKAGE / "shipped", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise UserError(
        f"This installation of simai-rules has no '{name}' (looked in {_PACKAGE / 'shipped'} and {_PACKAGE.parent}). "
        "Install it again: pip install --force-reinstall simai-rules"
    )
