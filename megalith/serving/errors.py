"""Errors of the endpoint in the form that OpenAI's clients read.

`{"error": {"message", "type", "param", "code"}}`, as in the error guide of OpenAI's API reference.
"""

from typing import Any

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An answer other than success: its HTTP status, and a sentence for the client.

    `param` names the field at fault, `code` is a word for programs, and `retry_after` (seconds) asks the client to come
    again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """The headers that belong to the status."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def too_large(limit: int) -> ApiError:
    """The error for a body of more bytes than the server reads."""
    return ApiError(
        413, f"The body of this request is larger than this server reads ({limit:,} bytes).", code="body_too_large"
    )


def too_many_numbers(wanted: int, most: int) -> ApiError:
    """The error for an answer of more log-probabilities than one may have."""
    return ApiError(
        400,
        f"'logprobs': this answer would have {wanted:,} of them, and one may have {most:,}. Ask for fewer "
        "alternatives, prompts or choices at once.",
        param="logprobs",
        code="answer_too_large",
    )


def too_busy() -> ApiError:
    """The error for a request beyond those that may wait."""
    return ApiError(
        429,
        "This server has as many requests as may wait. Try again shortly.",
        code="too_many_requests",
        retry_after=1,
    )


def out_of_time(seconds: float) -> ApiError:
    """The error for a request that took longer than one may take."""
    return ApiError(504, f"This request took longer than this server allows ({seconds:g} s).", code="timeout")


def stopping() -> ApiError:
    """The error for a request that comes, or is unfinished, when the server ends."""
    return ApiError(503, "This server is stopping.", code="stopping", retry_after=5)


def engine_ended() -> ApiError:
    """The error for a server whose engine cannot go on."""
    return ApiError(503, "The engine has ended: start the server again.", code="engine_failed")
