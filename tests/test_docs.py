"""What the documents name is there."""

import re

from tests.tiny import ROOT


def test_every_test_that_the_table_of_faults_names_exists():
    named = set(re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs/faults.md").read_text("utf-8")))
    assert len(named) > 20
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert missing == []
