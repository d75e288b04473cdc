"""What a server is spared at the import of SciPy, and that nothing else changes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

#: What there is in SciPy with its signatures and some results, and how long a docstring is.
TOLD = """\
import inspect, json, re, sys
from nerite.backends import lean_imports
exec(sys.argv[1])
with lean_imports.lean_imports():
    import sklearn
import scipy.stats, scipy.special, scipy.linalg, scipy.ndimage, scipy.signal, scipy.interpolate
copied = [n for n in sys.modules if n.endswith("array_api_compat.numpy")]
spared = sorted(n for n in copied if "f2py" not in vars(sys.modules[n]))
numpy = sys.modules["numpy"]
whole = "f2py" in numpy.__all__ and "f2py" in dir(numpy) and numpy.f2py.__name__ == "numpy.f2py"
import sklearn.linear_model, sklearn.ensemble, sklearn.isotonic

def told(value):
    try:
        signature = str(inspect.signature(value)) if callable(value) else ""
    except (ValueError, TypeError):
        signature = ""
    return type(value).__name__ + re.sub("0x[0-9A-Fa-f]+", "", signature)

there = {
    f"{name}.{key}": told(value)
    for name, module in sorted(sys.modules.items())
    if name.partition(".")[0] in ("scipy", "sklearn") and "_lib" not in name
    for key, value in vars(module).items()
    if not key.startswith("__") and key not in ("FunctionDoc", "f2py")
}
stats = scipy.stats
results = [
    stats.rankdata([3, 1, 2, 2], "max").tolist(),
    stats.gmean([[1, 2], [3, 4]], axis=1, keepdims=True).tolist(),
    stats.norm(1, 2).cdf([0.3, 4]).tolist(),
    stats.chi2.ppf(0.3, 5),
    list(stats.spearmanr([1, 2, 3, 4], [2, 1, 4, 3])),
    stats.Normal(mu=1.0, sigma=2.0).cdf(0.3),
    scipy.special.softmax([1, 2, 3]).tolist(),
    scipy.linalg.det([[1, 2], [3, 4]]),
]
docs = [len(stats.rankdata.__doc__), len(stats.norm.__doc__)]
told = {"there": there, "results": results, "docs": docs, "spared": spared, "whole": whole}
json.dump(told, sys.stdout)
"""


def scipy_after(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", TOLD, code], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain() -> Any:
    return scipy_after("")


def test_only_docstrings_and_copies_of_a_compiler_differ(plain: Any) -> None:
    spared = scipy_after("lean_imports.allow()")
    assert len(plain["there"]) > 5000
    assert spared["there"] == plain["there"]
    assert spared["results"] == plain["results"]
    assert spared["whole"] is plain["whole"] is True
    assert (len(spared["spared"]), plain["spared"]) == (2, [])
    assert all(short < full for short, full in zip(spared["docs"], plain["docs"], strict=True))


def test_a_version_that_nobody_has_looked_at_is_left_alone(plain: Any) -> None:
    code = "lean_imports.allow(); lean_imports.KNOWN = ((1, 0), (1, 1))"
    assert scipy_after(code) == plain


def test_a_server_inside_another_program_leaves_its_help_alone() -> None:
    code = (
        "from nerite.server.server import Server\n"
        "from nerite.backends import sklearn, lean_imports\n"
        "sklearn.require()\n"
        "from scipy._lib._docscrape import FunctionDoc\n"
        "assert FunctionDoc is not lean_imports.Unread\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
