"""A transformer on the standard library: doubles every input, then asks the predictor."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request, urlopen

parser = argparse.ArgumentParser()
parser.add_argument("--model_name")
parser.add_argument("--predictor_host")
parser.add_argument("--http_port", type=int)
ARGUMENTS = parser.parse_args()


class Doubling(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tensor = asked["inputs"][0]
        tensor["data"] = [[2 * number for number in row] for row in tensor["data"]]
        url = f"http://{ARGUMENTS.predictor_host}/v2/models/{ARGUMENTS.model_name}/infer"
        with urlopen(Request(url, json.dumps(asked).encode()), timeout=30) as answer:
            text = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


print("doubling", flush=True)
HTTPServer(("127.0.0.1", ARGUMENTS.http_port), Doubling).serve_forever()
