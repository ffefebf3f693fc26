"""Envoy's route file: an operator's, of which the watchdog changes two weights. Blocking."""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watchdog.routers.envoy_weights import ClusterSettings, Pair, agreed, pairs_in
from watchdog.routers.refusal import RefusedError

_POLL_S = 0.02

_ADVICE = {
    errno.ENOENT: "write it first, with a fast and a safe cluster in weighted_clusters",
    errno.EACCES: "the watchdog must be able to read it, to write in its folder and to give a file to its group",
    errno.EPERM: "the watchdog must be able to read it, to write in its folder and to give a file to its group",
    errno.EROFS: "mount its folder for writing",
    errno.EBUSY: "mount its folder, not the file alone: a file that is a mount can't be renamed over",
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space on its disk",
}


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
        with self._told(), _locked(self._path.parent, until) as folder:
            before = self._path.lstat()
            document, pairs = self._read()
            if agreed(pairs) == fast_percent and not anew:
                return False
            for pair in pairs:
                pair.fast["weight"], pair.safe["weight"] = fast_percent, 100 - fast_percent
            self._replace(json.dumps(document, indent=2) + "\n", before)
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

    def _replace(self, text: str, before: os.stat_result) -> None:
        """Put `text` into the file's place, unless that has changed since `before`."""
        beside = self._path.with_name(f".{self._path.name}.watchdog")  # one name: what a crash leaves, the next removes
        beside.unlink(missing_ok=True)
        try:
            with beside.open("x", encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_gid != before.st_gid:
                    os.fchown(file.fileno(), -1, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))  # Envoy may be another user
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if _state(self._path.lstat()) != _state(before):
                raise RefusedError(f"{self}: somebody changed it at this moment; nothing was written")
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "check its disk")
            raise RefusedError(f"{self}: {error.strerror}; {advice}") from error
        except ValueError as error:
            raise RefusedError(f"{self}: {error}", retry=False) from error


def _state(file: os.stat_result) -> tuple[int, int, int]:
    return file.st_ino, file.st_mtime_ns, file.st_size


@contextmanager
def _locked(folder: Path, until: float) -> Iterator[int]:
    """The folder's descriptor, which only one watchdog has at a time: two models may share a file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            if time.monotonic() >= until:  # which a hanging disk may have passed: a newer switch would be undone
                raise RefusedError(f"{folder} is held by another watchdog")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
        yield handle
    finally:
        os.close(handle)
