"""What `nerite serve` leaves alone until it is needed, so that it starts fast.

Times depend on machines and neighbours; which modules are imported does not.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Told when the server is ready, by the one thing that `nerite serve` prints on standard output.
TOLD = """\
import os, sys
from nerite.cli.app import main

told = []

class Told:
    def write(self, text): pass
    def isatty(self): return False
    def flush(self):
        if not told:
            os.write(1, " ".join(sorted(sys.modules)).encode())
            os.close(1)
            told.append(True)

sys.stdout = Told()
sys.exit(main(sys.argv[1:]))
"""
#: Packages, and parts of the standard library that take long or bring much along.
NOT_FOR_SERVING = {
    *("typer", "click", "rich", "pydantic", "yaml", "tritonclient", "opentelemetry", "obstore"),
    *("sklearn", "scipy", "joblib", "onnx", "onnxruntime", "pandas", "PIL", "grpc"),
    *("asyncio", "multiprocessing", "unittest", "ssl", "http.client", "urllib.request", "email"),
    *("importlib.metadata", "tempfile", "subprocess", "zipfile", "xml", "sqlite3", "argparse"),
    *("nerite.kserve", "nerite.local", "nerite.downloads", "nerite.server.openapi"),
    *("nerite.cli.commands", "nerite.server.polling", "nerite.server.sagemaker_models"),
}
IDENTITY = """\
backend: "identity"
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""


def test_serving_imports_only_what_a_request_may_need(tmp_path: Path) -> None:
    (tmp_path / "echo/1").mkdir(parents=True)
    (tmp_path / "echo/config.pbtxt").write_text(IDENTITY)
    ports = ["--http-port=0", "--grpc-port", "0", "--metrics-port=0"]
    words = [sys.executable, "-c", TOLD, "serve", str(tmp_path), *ports]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        modules = set(process.stdout.read().split())
        process.terminate()
    assert "nerite.backends.identity" in modules
    assert sorted(modules & NOT_FOR_SERVING) == []


def test_a_server_lives_before_what_loads_models_is_imported() -> None:
    code = "import sys, nerite.server.server; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_command_does_not_wait_for_the_others() -> None:
    code = (
        "import sys\n"
        "from nerite.cli.commands import command_line\n"
        "command_line('version')\n"
        "others = {f'nerite.cli.{name}' for name in ('serve', 'infer', 'get', 'up', 'client')}\n"
        "assert not others & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
