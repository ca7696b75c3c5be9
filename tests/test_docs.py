"""What the documents name is there."""

import re

import pytest

from tests.tiny import ROOT


@pytest.mark.parametrize(("page", "tests"), [("faults", 20), ("hub", 7)])
def test_every_test_that_a_page_names_exists(page, tests):
    named = set(re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / f"docs/{page}.md").read_text("utf-8")))
    assert len(named) >= tests
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert missing == []
