"""The watchdog itself, as a process of its own, read by its log as anybody could."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Record = dict[str, Any]


class Service:
    """``watchdog run CONFIG``; every log record is kept, and shown to `on_record` as it comes."""

    def __init__(self, config: Path, on_record: Callable[[Record], None]) -> None:
        self._config = config
        self._on_record = on_record
        self._records: list[Record] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "watchdog", "run", str(self._config), "--log-level", "debug"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._process is None or self._reader is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=5)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def wait_for(self, wanted: Callable[[Record], bool], timeout_s: float, since: int = 0) -> Record | None:
        """The first record from `since` on that is wanted, or None if none comes in time."""
        give_up_at = time.monotonic() + timeout_s
        seen = since
        with self._news:
            while True:
                for record in self._records[seen:]:
                    if wanted(record):
                        return record
                seen = len(self._records)
                left = give_up_at - time.monotonic()
                if left <= 0 or not self._alive():
                    return None
                self._news.wait(min(left, 0.5))

    def records(self, since: int = 0) -> list[Record]:
        with self._news:
            return self._records[since:]

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        for line in self._process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": "text", "level": "error", "text": line.rstrip()}
            self._on_record(record)
            with self._news:
                self._records.append(record)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()
