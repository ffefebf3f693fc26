"""Files that are shipped beside the code: in a checkout at its top, in an installed package inside it."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(folder: str, name: str) -> Path:
    """Where such a file is, for example ``shipped("alerts", "watchdog.rules.yaml")``.

    Raises:
        FileNotFoundError: this installation has none.
    """
    for top in (_PACKAGE / "shipped", _PACKAGE.parent):
        if (found := top / folder / name).is_file():
            return found
    raise FileNotFoundError(f"{folder}/{name} is not part of this installation")
