"""The two ways in which a call of the Kubernetes API fails."""

from __future__ import annotations

from typing import Final

from hpo_engine.types import AbohbError

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
INVALID: Final = 422


class ApiAwayError(OSError):
    """The API cannot be reached or cannot answer now. Whether the call went through is unknown; try again."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of HTTP; 0: there was no answer


class ApiError(AbohbError):
    """The API has refused a call, and will refuse it again."""

    def __init__(self, call: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"Kubernetes refused to {call}: {message or reason} ({status} {reason})")
        self.status, self.reason, self.message = status, reason, message


def spent(error: ApiError) -> bool:
    """Refused for a quota that is used up: it may be free later."""
    return error.status == FORBIDDEN and "exceeded quota" in error.message
