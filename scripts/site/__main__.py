# SPDX-License-Identifier: Apache-2.0
"""`python -m scripts.site`: build the site into build/docs, and fail if anything in it is amiss.

The written pages are laid out in build/site with what they ask for filled in, the generated ones
beside them. The builder fails on broken links and anchors; what it does not look at is looked at
here: pages that the menu does not list, and what a reader's browser would fetch from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from scripts.site import pages

_CHECKOUT = Path(__file__).parents[2]
_BUILT = _CHECKOUT / "build/docs"
_FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?(https?:[^\s\"'>]+)")


def lay_out() -> None:
    """Writes everything that the builder reads."""
    shutil.rmtree(pages.STAGE, ignore_errors=True)
    for path, text in pages.everything():
        target = pages.STAGE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def build() -> bool:
    """Whether the builder is content."""
    zensical = Path(sysconfig.get_path("scripts")) / "zensical"
    done = subprocess.run(
        [zensical, "build", "--strict", "--clean"],
        cwd=_CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr), file=sys.stderr)
    return done.returncode == 0


def unlisted() -> Iterator[str]:
    """Pages that the menu does not lead to."""
    menu = (_CHECKOUT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r": (\S+\.md)$", menu, re.M))
    for page in sorted(pages.STAGE.rglob("*.md")):
        path = str(page.relative_to(pages.STAGE))
        if path not in listed:
            yield f"mkdocs.yml: the menu does not list {path}"


def fetched() -> Iterator[str]:
    """What a browser would fetch from the network while it shows a page."""
    for page in sorted(_BUILT.rglob("*.html")):
        for url in _FETCHED.findall(page.read_text()):
            yield f"{page.relative_to(_BUILT)} fetches {url}"


def main() -> int:
    """Builds, and tells everything that is amiss."""
    lay_out()
    wrong = list(unlisted())
    if not build():
        return 1
    wrong += fetched()
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
