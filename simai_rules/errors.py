"""The base of every error that is a message to the user: the command line prints it without a traceback."""


class UserError(Exception):
    """Something that the user can mend. The text says what happened, where, the likely cause and the remedy."""

    exit_code = 1


class ConfigError(UserError):
    """A config file or an option that is not valid; the text lists every problem found, not just the first."""


class MissingProgram(UserError):
    """A program or package that is needed here and is not installed; the text names the command that gets it."""
