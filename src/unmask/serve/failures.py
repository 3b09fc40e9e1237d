"""Errors of the service: a status and a message for the caller, in the form of OpenAI's. Paths, stacks and keys stay inside."""

from __future__ import annotations

from typing import Any

from unmask.serve.engine import Busy, TooLate


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: for the caller.
        param: the field that is wrong.
        code: a short name.
        headers: further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers: dict[str, str] = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refusal(error: BaseException) -> Refused:
    """Return the reply to an error; an unexpected error is named as such, without details."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Busy):
        return Refused(
            429,
            "Too many requests wait. Try again later.",
            code="busy",
            headers={"Retry-After": str(error.retry_after)},
        )
    if isinstance(error, TooLate):
        return Refused(408, "The request took longer than the service allows.", code="too_late")
    if isinstance(error, ValueError):
        return Refused(400, str(error), code="invalid_value")
    return Refused(500, "The service failed. Its log says more.", code="internal")
