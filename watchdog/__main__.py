"""The command's door: makes sure that this `watchdog` is ours, then starts the command line."""

import os
import sys
from pathlib import Path

import watchdog

_FOREIGN = "observers"
"""A package inside PyPI's file-watching ``watchdog``, which shares our import name."""


def impostor(package: object) -> str | None:
    """Why `package` is not this project, or None if it is.

    Two distributions that install the same import name overwrite each other's files, so the
    damage shows as a foreign file or as a missing mark of our own.
    """
    folder = Path(str(getattr(package, "__file__", ""))).parent
    ours = getattr(package, "DISTRIBUTION", None) == "inference-watchdog"
    if ours and not (folder / _FOREIGN).exists():
        return None
    return (
        f"another package named 'watchdog' (the file watcher) is installed in {folder} and clashes with "
        "inference-watchdog; use a virtual environment of its own: "
        "pip uninstall watchdog inference-watchdog && pip install inference-watchdog"
    )


def main() -> None:
    problem = impostor(watchdog)
    if problem is not None:
        sys.exit(f"watchdog: {problem}")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core prints what comes back as a value anyway
    # numpy would start a thread for every core of the host, and small arrays need none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from watchdog.cli.main import app  # noqa: PLC0415 - only once it is known to be ours

    app()


if __name__ == "__main__":
    main()
