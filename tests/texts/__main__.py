# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.texts`: Triton's error texts that no test produces, and what each waits for."""

from __future__ import annotations

from tests.texts.quoted import texts, unproduced

missing = unproduced()
for text in missing:
    print(f"{text.section:5} {text.fate or 'NO TEST':30} {text.words}")
print(f"{len(texts()) - len(missing)} of {len(texts())} texts are held by tests")
