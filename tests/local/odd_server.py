"""A server that works as long as it is told to, tells how many asked at once, and can hang."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
now = 0
most = 0
hung = threading.Event()
never = threading.Event()


class Odd(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if hung.is_set():
            never.wait()
        self.tell({"pid": os.getpid()})

    def do_POST(self) -> None:
        global now, most
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            now += 1
            most = max(most, now)
        never.wait(asked.get("secs", 0))
        with lock:
            now -= 1
        if asked.get("hang"):
            hung.set()
        self.tell({"pid": os.getpid(), "most": most})

    def tell(self, value: object) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


# One that hangs does not hear that it shall end, either.
signal.signal(signal.SIGTERM, lambda *_: None if hung.is_set() else os._exit(0))
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1].partition("=")[2])), Odd).serve_forever()
