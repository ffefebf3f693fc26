#!/usr/bin/env python3
"""Takes routes from the watchdog's webhook router: python receiver.py PORT KEY_FILE ROUTE_FILE.

`move` writes the route to a file; put in its place whatever moves your traffic.
"""

import hashlib
import hmac
import json
import sys
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT, KEY, ROUTE = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
MOST_BYTES, MOST_AGE_S = 64 * 1024, 300
done: deque[str] = deque(maxlen=1000)  # keys of wishes carried out: a retry or a replay does nothing more


def is_genuine(body: bytes, signature: str) -> bool:
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    signed = f"{parts.get('t', '')}.".encode() + body
    wanted = hmac.new(KEY.read_text().strip().encode(), signed, hashlib.sha256).hexdigest()
    matches = hmac.compare_digest(wanted.encode(), parts.get("v1", "").encode())
    return matches and abs(time.time() - int(parts["t"])) <= MOST_AGE_S


def move(wish: dict[str, object]) -> None:
    fresh = ROUTE.with_suffix(".new")
    fresh.write_text(json.dumps({"fast_percent": wish["fast_percent"]}))
    fresh.replace(ROUTE)


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # one request after another: nobody may keep the next one waiting

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES))
        if not is_genuine(body, self.headers.get("X-Watchdog-Signature", "")):
            return self.answer(401, b'{"detail": "the signature is not right, or too old"}')
        wish = json.loads(body)
        if wish["idempotency_key"] not in done:
            move(wish)
            done.append(wish["idempotency_key"])
        return self.answer(200, b"{}")

    def do_GET(self) -> None:
        self.answer(200, ROUTE.read_bytes()) if ROUTE.exists() else self.answer(404, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
