"""The events of one watch, as they come over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import urllib3

from operators.kube.errors import ApiAwayError


class Stream:
    """Iterate over it once. Ends when the server ends it; ApiAwayError when it breaks or falls silent.

    What was read whole is given out; an event that was cut in half is not, and comes again after a reopening.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, quiet: float) -> None:
        self._response = response
        # The answer had to begin soon; from now on there may be nothing to say for a while.
        sock = getattr(response.connection, "sock", None)
        if sock is not None:
            sock.settimeout(quiet)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rest = b""
        try:
            for chunk in self._response.stream(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiAwayError(f"a watch broke: {error}") from error

    def interrupt(self) -> None:
        """From another thread: the reader sees the end of the stream soon."""
        with suppress(Exception):  # it may have ended at this very moment
            self._response.shutdown()
