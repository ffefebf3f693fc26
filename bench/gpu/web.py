"""One HTTP request with a JSON answer."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any


class WebError(Exception):
    """Nothing answered, or not with 200."""


def ask(url: str, body: Mapping[str, Any] | None = None, *, token: str = "", timeout_s: float = 10.0) -> Any:
    """GET, or POST where there is a body; None for an empty answer.

    Raises:
        WebError: with what the server said.
    """
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer = response.read()
        return json.loads(answer) if answer else None
    except urllib.error.HTTPError as error:
        raise WebError(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise WebError(f"{url}: {error}") from error
