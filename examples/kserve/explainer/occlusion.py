"""An explainer on the standard library: how the prediction changes when each feature is taken away.

`:explain` of the service comes here; `--predictor_host` says where to ask for predictions.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.request import Request, urlopen

parser = argparse.ArgumentParser()
parser.add_argument("--model_name")
parser.add_argument("--predictor_host")
parser.add_argument("--http_port", type=int)
ARGUMENTS, _ = parser.parse_known_args()


def predict(rows: list[list[float]]) -> Any:
    url = f"http://{ARGUMENTS.predictor_host}/v1/models/{ARGUMENTS.model_name}:predict"
    with urlopen(Request(url, json.dumps({"instances": rows}).encode()), timeout=30) as answer:
        return json.load(answer)["predictions"]


class Occlusion(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        explanations = []
        for row in asked["instances"]:
            without = [[*row[:i], 0.0, *row[i + 1 :]] for i in range(len(row))]
            whole, *others = predict([row, *without])
            explanations.append({"prediction": whole, "without_feature": others})
        text = json.dumps({"explanations": explanations}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


HTTPServer(("127.0.0.1", ARGUMENTS.http_port), Occlusion).serve_forever()
