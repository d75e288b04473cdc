# SPDX-License-Identifier: Apache-2.0
"""How often the garbage collector looks while a server starts.

Imports make some hundred thousand objects that stay; looking through them again and again was a
fifth of the time that scikit-learn's take. Until the models are loaded it looks only after a
million new ones, so that what a model throws away while it loads is still found.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_SELDOM = 1_000_000


def collect_seldom() -> None:
    """For the time until models are loaded."""
    gc.set_threshold(_SELDOM, *_USUAL[1:])


def collect_as_usual() -> None:
    """From then on."""
    gc.set_threshold(*_USUAL)
