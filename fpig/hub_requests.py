"""Requests to the Hub: tried again while it is down or silent; then an error in one line with the repair."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # the latter: no answer at all

from fpig.hub_target import HubTarget

ANSWER_SECONDS = 60.0
PAUSES = (1, 2, 4)  # seconds, before each further try
PATIENCE_SECONDS = 300.0  # after which nothing is tried again
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def find_hub_error(error: BaseException | None) -> HTTPError | None:
    """What the Hub answered, or that it did not, among an error's causes; `None` if it was not the Hub."""
    while error is not None and not isinstance(error, HTTPError):
        error = error.__cause__
    return error


@contextmanager
def name_hub_errors(target: HubTarget) -> Iterator[None]:
    """
    Raises:
        OSError: whatever the Hub answered, or that it did not, in one line with the repair.
    """
    try:
        yield
    except (OSError, HTTPError, RuntimeError) as error:
        hub_error = find_hub_error(error)
        if hub_error is None:
            raise
        if not isinstance(hub_error, HfHubHTTPError):
            raise OSError(
                f"the Hub at {target.api.endpoint} can't be reached for `{target.repo_id}` "
                f"({type(hub_error).__name__}: {hub_error}); check the network, then push again"
            ) from error
        status, reason = hub_error.response.status_code, get_reason(hub_error)
        if status in (401, 403):
            raise PermissionError(
                f"`{target.repo_id}` can't be written with this token ({status}: {reason}); run "
                "`hf auth login` with one that may write there"
            ) from error
        raise OSError(
            f"the Hub refuses `{target.repo_id}` ({status}: {reason}); what was current there still is: push "
            "again"
        ) from error


def get_reason(error: Exception) -> str:
    """The first line of an error that says something."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()


def retry(call: Callable[[], Result]) -> Result:
    """What `call` returns; tried again where the Hub is down or silent, with longer and longer pauses."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pauses = iter(PAUSES)
    while True:
        get_session().timeout = ANSWER_SECONDS  # huggingface_hub would wait for ever
        try:
            return call()
        except (OSError, HTTPError, RuntimeError) as error:  # an upload's thread wraps it in the last
            hub_error = find_hub_error(error)
            has_answered = isinstance(hub_error, HfHubHTTPError)
            if hub_error is None or (has_answered and hub_error.response.status_code not in RETRIED_STATUSES):
                raise
            pause = next(pauses, None)
            if pause is None or time.monotonic() > deadline:
                raise
            logger.warning("The Hub: %s; trying again", get_reason(hub_error))
            time.sleep(pause)


__all__ = ["ANSWER_SECONDS", "find_hub_error", "get_reason", "name_hub_errors", "retry"]
