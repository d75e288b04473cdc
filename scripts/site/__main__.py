# SPDX-License-Identifier: Apache-2.0
"""`python -m scripts.site`: lay out what the site is built from, in build/site.

The written pages are copied with what they ask for filled in, the generated ones put beside them.
"""

from __future__ import annotations

import shutil

from scripts.site import pages

if __name__ == "__main__":
    shutil.rmtree(pages.STAGE, ignore_errors=True)
    for path, text in pages.everything():
        target = pages.STAGE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
