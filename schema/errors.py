"""The four kinds of error that cross a module's border, and nothing finer.

Drivers raise dozens of exception types; whoever calls a driver wraps what it raises into one of
these, once. The doors map them to HTTP in one place (``api.http.problems``), the writer to "dead
letter", "retry" or "stop".
"""

from __future__ import annotations

# What a client library says of such a DSN may quote it, with its password.
NO_DSN = "WEIR_DATABASE_DSN: not a PostgreSQL URL; write it like postgresql://user:password@host:5432/name"


class WeirError(Exception):
    """What all of ours have in common: a sentence for whoever has to act on it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(WeirError):
    """The input cannot be taken, now or later: 400, or a dead letter. Names the field and the fix."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TooLarge(Invalid):
    """The input is beyond a documented size: 413."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=413)


class UnsupportedEncoding(Invalid):
    """A media type or a content encoding that we do not read: 415."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=415)


class Denied(WeirError):
    """The caller may not: 401 without a usable credential, 403 without the right, 404 if unknown."""

    def __init__(self, message: str, *, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class Overloaded(WeirError):
    """More than we take just now: 429 for a caller's own rate, 503 for ours. Nothing was stored."""

    def __init__(self, message: str, *, status: int = 503, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Unavailable(WeirError):
    """Kafka or the database does not answer: 503. What was asked may or may not have happened."""

    def __init__(self, message: str, *, retry_after_seconds: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
