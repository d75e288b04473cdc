# SPDX-License-Identifier: Apache-2.0
"""Whatever stands behind a flag, the server starts or says in one sentence why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.mutation import SECONDS, Hunt

from nerite.cli.flags import FLAGS, Flag
from nerite.cli.options import LARGEST, backend_settings, choose, metrics_settings
from nerite.cli.serve import server_options
from nerite.cli.trace_config import trace_options
from nerite.errors import InvalidArgument, NeriteError
from nerite.server.options import ServerOptions
from nerite.testing import serve

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)
METRICS = (
    "counter_latencies=true", "histogram_latencies=false", "summary_latencies=1",
    "summary_quantiles=0.5:0.05,0.9:0.01", 'summary_quantiles="0.5:0.05"', "color=red",
)  # fmt: skip
TRACES = (
    "rate=1000", "level=TIMESTAMPS", "level=TENSORS", "level=OFF", "count=-1", "mode=triton",
    "mode=opentelemetry", "triton,file=/nowhere/t.json", "triton,log-frequency=7", "opentelemetry,url=http://x",
    "opentelemetry,resource=a=b", "opentelemetry,bsp_max_queue_size=1", "triton,rate=1",
)  # fmt: skip
BACKENDS = (
    "onnxruntime,default-max-batch-size=4",
    "default-max-batch-size=4",
    "python,x=",
    "a,b,c=d",
)


def metrics(words: Sequence[str]) -> ServerOptions:
    return ServerOptions(**metrics_settings(words))


@pytest.mark.parametrize(
    ("name", "read", "seeds"),
    [
        ("metrics-config", metrics, METRICS),
        ("trace-config", trace_options, TRACES),
        ("backend-config", backend_settings, BACKENDS),
    ],
)
def test_any_words_are_understood_or_refused(
    name: str, read: Callable[[Sequence[str]], Any], seeds: Sequence[str]
) -> None:
    hunt = Hunt(seeds, name)
    for text in hunt.inputs():
        words = [text, hunt.random.choice(hunt.pool)]
        try:
            read(words)
            answer = "understood"
        except NeriteError as refused:
            answer = str(refused)
        except Exception as why:
            raise AssertionError(f"--{name} {words!r}: {why!r}") from why
        hunt.keep(text, answer)
    assert len(hunt.known) > 2


def test_any_value_of_any_flag_is_read_or_refused() -> None:
    hunt = Hunt(["0", "1", "true", "false", "8000", "name", "explicit", "a,b=c", "off"], "flags")
    for text in hunt.inputs():
        flag = hunt.random.choice(FLAGS)
        try:
            server_options(["somewhere"], choose({flag.name: text}))
        except NeriteError as refused:
            hunt.keep(text, str(refused))
        except Exception as why:
            raise AssertionError(f"{flag.name}={text[:300]!r}: {why!r}") from why


NUMBERS = [flag for flag in FLAGS if flag.kind in ("int", "level") and flag.fate == "works"]


@pytest.mark.parametrize("flag", NUMBERS, ids=lambda flag: flag.name)
def test_the_largest_number_of_a_flag_serves_and_a_larger_one_is_refused(
    flag: Flag, tmp_path: Path
) -> None:
    """A number that no machine word holds was once found by the data plane, in its own words."""
    most = flag.maximum if flag.maximum is not None else LARGEST
    with pytest.raises(InvalidArgument, match=f"{flag.name}: {most + 1} is out of range"):
        choose({flag.name: str(most + 1)})
    with pytest.raises(InvalidArgument, match="is not a whole number"):
        choose({flag.name: "9" * 5000})
    values = dict(choose({flag.name: str(most)}).values)
    if flag.name.endswith("-port") or flag.option not in ServerOptions.__dataclass_fields__:
        return  # whether a port is free, and what a trace needs besides, is another matter
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/config.pbtxt").write_text('backend: "identity"')
    with serve(tmp_path, **values) as server:
        assert server.states.index()
