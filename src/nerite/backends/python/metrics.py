# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.MetricFamily` and its metrics: a model's own lines on the metrics page.

The numbers live in the data plane, so a page is written without asking the model. Names that the
server uses for itself are refused; everything else is the model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nerite.backends.python.failures import TritonModelException
from nerite.errors import NeriteError

if TYPE_CHECKING:
    from nerite import _core

_KINDS: Final = ("counter", "gauge", "histogram")
_TAKEN: Final = ("nerite_", "nv_inference_", "nv_model_", "nv_cpu_", "nv_pinned_memory_")


class MetricFamily:
    """Metrics of one name; they stay on the page for as long as the model holds them."""

    COUNTER: Final = 0
    GAUGE: Final = 1
    HISTOGRAM: Final = 2

    def __init__(self, name: str, description: str, kind: int) -> None:
        from nerite import _core

        if kind not in range(len(_KINDS)):
            raise TritonModelException(
                f"kind of metric family '{name}' is {kind!r}; MetricFamily.COUNTER, GAUGE or "
                "HISTOGRAM is expected"
            )
        if name.startswith(_TAKEN):
            raise TritonModelException(
                f"metric family '{name}' begins like the server's own; another prefix than "
                f"{', '.join(_TAKEN)} is expected"
            )
        self._family = _told(_core.MetricFamily, name, description, _KINDS[kind])

    def Metric(  # noqa: N802 - Triton's name
        self,
        labels: Mapping[str, str] | None = None,
        buckets: Sequence[float] | None = None,
    ) -> Metric:
        """The metric with these labels; `buckets`, upper bounds, are for histograms."""
        return Metric(_told(self._family.metric, dict(labels or {}), buckets))


class Metric:
    """One series of a family."""

    def __init__(self, core: _core.Metric) -> None:
        self._core = core

    def increment(self, value: float) -> None:
        """Adds to a counter (never less than 0) or a gauge."""
        _told(self._core.increment, value)

    def set(self, value: float) -> None:
        """Sets a gauge."""
        _told(self._core.set, value)

    def observe(self, value: float) -> None:
        """Counts a number in a histogram."""
        _told(self._core.observe, value)

    def value(self) -> float:
        """The value of a counter or a gauge."""
        return float(_told(self._core.value))


def _told(function: Any, *arguments: Any) -> Any:
    """Calls the data plane; what it refuses the model sees as Triton's exception."""
    try:
        return function(*arguments)
    except NeriteError as why:
        raise TritonModelException(str(why)) from why
