"""What can go wrong, sorted by the one question that matters: try again or not."""

from __future__ import annotations


class CreditsdError(Exception):
    """A failure with one clear line for people; this class itself means a bug of ours."""

    exit_code = 70  # EX_SOFTWARE of sysexits


class ConfigError(CreditsdError):
    """The settings are wrong: do not try again. Says which one, and the mend."""

    exit_code = 78  # EX_CONFIG


class SchemaError(CreditsdError):
    """The database lacks or contradicts what we need: do not try again. Says the mend."""

    exit_code = 78  # EX_CONFIG


class DatabaseUnavailable(CreditsdError):  # noqa: N818  reads as the state it reports
    """PostgreSQL cannot be reached or went away: try again."""

    exit_code = 69  # EX_UNAVAILABLE


class SinkUnavailable(CreditsdError):  # noqa: N818  reads as the state it reports
    """Nothing of the batch is known to have arrived: try the same batch again."""

    exit_code = 69  # EX_UNAVAILABLE


class SinkRejected(CreditsdError):  # noqa: N818  reads as the state it reports
    """The sink refused this one delivery; others may pass."""

    exit_code = 69  # EX_UNAVAILABLE


class InputError(CreditsdError):
    """What was asked cannot be answered for anyone: an id that is none."""

    exit_code = 65  # EX_DATAERR
