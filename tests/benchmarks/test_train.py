"""The command of the training benchmark, as others name it."""

import re

from benchmarks.train import SHAPES
from tests.tiny import ROOT


def test_the_makefile_and_the_pages_name_shapes_that_there_are():
    texts = [ROOT / "Makefile", *ROOT.glob("docs/*.md")]
    named = [name for text in texts for name in re.findall(r"benchmarks\.train --shape (\w+)", text.read_text("utf-8"))]
    assert "tiny" in named and set(named) <= SHAPES.keys()
