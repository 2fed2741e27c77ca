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


class LockTimeout(StagingTimeout):
    """The lock of a key was held by others until the deadline."""

    def __init__(self, key: str, backend: str, seconds: float) -> None:
        super().__init__(key, backend, seconds)
        self.args = (
            f"the lock of key {shorten(key)} on {backend} was not free within {seconds:g} s. Its holder works longer "
            "than that (give a longer timeout), hangs (see its log), or is this very process: a lock is not reentrant.",
        )


class StreamTimeout(StagingTimeout):
    """A stream had no partner, no room or not read all before the deadline; `key` is its name."""

    def __init__(self, name: str, backend: str, seconds: float, problem: str, cause: str) -> None:
        super().__init__(name, backend, seconds)
        self.args = (f"the stream {shorten(name)} on {backend} {problem} within {seconds:.3g} s. {cause}",)


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
