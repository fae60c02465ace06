"""The client waits as long as the service says before it asks again."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from services.client import Client

REFUSED = b'{"error": {"code": "rate_limited", "message": "later"}}'


class Busy(BaseHTTPRequestHandler):
    """Refuses the first request for a second, and answers the next."""

    asked: list[float]

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        refuses = len(self.asked) == 1
        body = REFUSED if refuses else b"[]"
        self.send_response(429 if refuses else 200)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_it_waits_as_long_as_it_is_told() -> None:
    Busy.asked = []
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}", "key") as client:
            assert client.labels() == []
        server.shutdown()
        thread.join()
    first, second = Busy.asked
    assert second - first >= 1
