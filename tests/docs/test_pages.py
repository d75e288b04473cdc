# SPDX-License-Identifier: Apache-2.0
"""Every block of the documentation's pages is run, in order, in an empty folder.

Three pages have tests of their own, which know the services that they are about.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import Reader, blocks_of

DOCS = Path(__file__).parents[2] / "docs"
APART = {"guides/kserve.md", "guides/local-kserve.md", "coming-from/triton.md"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if str(page.relative_to(DOCS)) not in APART]
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_the_page_works(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    blocks = blocks_of(page)
    assert len(blocks) == text.count("\n```") // 2, "a block is not written as blocks are"
    with Reader(tmp_path) as reader:
        for block in blocks:
            if block.reason:
                assert len(block.reason.split()) >= 4, "say why it is not run"
            else:
                reader.follow(block)
