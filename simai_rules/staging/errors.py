"""What can go wrong while data is staged. Every text names the key, the backend and what to do."""

from simai_rules.errors import UserError


class StagingError(UserError):
    """Base of all errors of staging."""


class StagingTimeout(StagingError):
    """A key was not there before the deadline.

    Attributes: key, backend, seconds (how long the reader waited).
    """

    def __init__(self, key: str, backend: str, seconds: float) -> None:
        self.key, self.backend, self.seconds = key, backend, seconds
        super().__init__(
            f"key {shorten(key)} was not staged on {backend} within {seconds:g} s. Either its writer has not come that "
            "far (give a longer timeout: staging.timeout) or it has failed (see its log)."
        )


class CorruptValue(StagingError):
    """A staged value that cannot be what was written: cut short, overwritten, or of an unknown format."""


class ServerLost(StagingError):
    """The staging server does not answer, or is not the one of this run."""


class StagingFull(StagingError):
    """The place where data is staged has no room for a value."""


def shorten(key: str, width: int = 80) -> str:
    """Return `key` quoted for a message, with its middle left out if it is long."""
    text = repr(key)
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 :]} ({len(key)} characters)"
