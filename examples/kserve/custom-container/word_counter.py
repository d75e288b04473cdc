"""A server of one's own on the standard library: counts the words of texts, over V1 and V2."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
ARGUMENTS = parser.parse_args()


class WordCounter(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith(":predict"):
            answer = {"predictions": [len(text.split()) for text in asked["instances"]]}
        else:
            counts = [len(text.split()) for text in asked["inputs"][0]["data"]]
            output = {"name": "words", "datatype": "INT64", "shape": [len(counts)], "data": counts}
            answer = {"model_name": "word-counter", "outputs": [output]}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


HTTPServer(("127.0.0.1", ARGUMENTS.port), WordCounter).serve_forever()
