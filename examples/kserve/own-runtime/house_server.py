"""What a house's own runtime might run: scikit-learn over V2, with arguments of its own making."""

from __future__ import annotations

import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import joblib
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--team")
parser.add_argument("--folder", type=Path)
parser.add_argument("--threads", type=int, default=1)
ARGUMENTS = parser.parse_args()
MODEL = joblib.load(next(ARGUMENTS.folder.glob("*.joblib")))


class House(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"][0]
        kinds = MODEL.predict(np.reshape(asked["data"], asked["shape"])).tolist()
        output = {"name": "kind", "datatype": "INT64", "shape": [len(kinds)], "data": kinds}
        answer = {"model_name": ARGUMENTS.model, "outputs": [output]}
        text = json.dumps({**answer, "parameters": {"team": ARGUMENTS.team}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


# The port is told as Knative tells it, since no argument does.
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), House).serve_forever()
