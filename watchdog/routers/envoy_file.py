"""Envoy's route file: an operator's, of which the watchdog changes two weights. Blocking."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watchdog.routers.envoy_weights import ClusterSettings, Pair, agreed, pairs_in
from watchdog.routers.refusal import RefusedError
from watchdog.routers.shared_file import ADVICE, ChangedError, locked, replace

_ADVICE = {**ADVICE, errno.ENOENT: "write it first, with a fast and a safe cluster in weighted_clusters"}


class RouteFile:
    """Blocking. Every method raises RefusedError."""

    def __init__(self, path: Path, clusters: ClusterSettings) -> None:
        self._path = path
        self._clusters = clusters

    def __str__(self) -> str:
        return str(self._path)

    def pairs(self) -> list[Pair]:
        with self._told():
            return self._read()[1]

    def write(self, fast_percent: int, *, anew: bool, until: float) -> bool:
        """Set the weights, and say whether the file was written.

        Args:
            fast_percent: what the fast engine gets.
            anew: write even what is there already, which makes Envoy read it again.
            until: `time.monotonic` at which another writer is no longer waited for.
        """
        with self._told(), locked(self._path.parent, until) as folder:
            before = self._path.lstat()
            document, pairs = self._read()
            if agreed(pairs) == fast_percent and not anew:
                return False
            for pair in pairs:
                pair.fast["weight"], pair.safe["weight"] = fast_percent, 100 - fast_percent
            replace(self._path, f"{json.dumps(document, indent=2)}\n".encode(), before)
            os.fsync(folder)
            return True

    def _read(self) -> tuple[dict[str, Any], list[Pair]]:
        if self._path.is_symlink():  # renaming would replace the link, and not what it leads to
            raise ValueError("this is a symbolic link; name the file itself")
        try:
            document = json.loads(self._path.read_bytes())
            resources = list(document["resources"])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("this is no DiscoveryResponse with `resources`") from error
        except ValueError as error:
            raise ValueError(f"this is no JSON: {error}") from error
        pairs = []
        for index, configuration in enumerate(resources):
            own = pairs_in([configuration], self._clusters)
            if own and configuration.get("validate_clusters") is not True:
                raise ValueError(
                    f"resources[{index}]: set validate_clusters to true,"
                    " or Envoy takes a cluster that it doesn't have, and answers 503"
                )
            pairs += own
        if not pairs:
            fast, safe = (" or ".join(names) for names in (self._clusters.fast, self._clusters.safe))
            raise ValueError(f"no route has {fast}, and {safe}, in weighted_clusters")
        return document, pairs

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except ChangedError as error:
            raise RefusedError(f"{self}: somebody changed it at this moment; nothing was written") from error
        except TimeoutError as error:
            raise RefusedError(f"{error.filename} is held by another watchdog") from error
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "check its disk")
            raise RefusedError(f"{self}: {error.strerror}; {advice}") from error
        except ValueError as error:
            raise RefusedError(f"{self}: {error}", retry=False) from error
