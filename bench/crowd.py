"""Ordinary traffic: clients that ask by HTTP at their own pace, in a process of their own."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Event, Thread
from types import TracebackType
from typing import Self

_CLIENTS = 4
_DEADLINE_S = 5.0
_PAUSE_S = 0.1
"""Between an answer and the next request of a client: together they keep the engine busy for a third of the time."""
_BODY = json.dumps({"inputs": [{"name": "CT", "shape": [1, 1, 1, 1], "datatype": "FP32", "data": [0.0]}]})


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of one request; times are Unix seconds."""

    sent_at: float
    at: float
    version: str
    """Who answered; empty where the request failed."""
    wrong: bool = False
    """Zeros, which nothing but the fault answers."""


class Crowd:
    """The process of the clients; they send while `sending` lasts."""

    def __init__(self) -> None:
        spawn = get_context("spawn")  # a copy of a process that has threads may hang
        self._orders, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_obey, args=(self._theirs,), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # or the end of the process would not be noticed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._orders.close()

    @contextmanager
    def sending(self, address: str, path: str) -> Iterator[list[Answer]]:
        """Requests to ``address`` (host:port); what became of them is in the list after the block."""
        answers: list[Answer] = []
        self._orders.send((address, path))
        yield answers
        self._orders.send(None)
        answers += self._orders.recv()


def _obey(orders: Connection) -> None:
    while True:
        address, path = orders.recv()
        ended = Event()
        clients = [_Client(address, path, ended) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        orders.recv()
        ended.set()
        for client in clients:
            client.join()
        orders.send(sorted((a for client in clients for a in client.answers), key=lambda answer: answer.at))


class _Client(Thread):
    """One after another, over a connection of its own."""

    def __init__(self, address: str, path: str, ended: Event) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answer] = []
        self._connection = http.client.HTTPConnection(address, timeout=_DEADLINE_S)
        self._path = path
        self._ended = ended

    def run(self) -> None:
        while not self._ended.is_set():
            self.answers.append(self._ask())
            time.sleep(_PAUSE_S)
        self._connection.close()

    def _ask(self) -> Answer:
        sent_at = time.time()
        try:
            self._connection.request("POST", self._path, _BODY)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # it connects anew by itself
            return Answer(sent_at=sent_at, at=time.time(), version="")
        at = time.time()
        if response.status != http.client.OK:
            return Answer(sent_at=sent_at, at=at, version="")
        answer = json.loads(body)
        wrong = answer["outputs"][0]["data"][0] == 0
        return Answer(sent_at=sent_at, at=at, version=str(answer["model_version"]), wrong=wrong)
