"""What the documents name is there: tests, files, and what a file is said to define."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*.md")})
# A path of this repository, and perhaps what it defines: `tests/test_docs.py::PAGES`. Not the end of a longer path.
NAMED = re.compile(
    r"(?<![\w/.-])((?:clm|tests|docs|benchmarks|calibration|recipes)(?:/[\w.-]*\w)+|run_clm\.py|tokenizer/\w+\.py)"
    r"(?:::(\w+))?"
)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def ids(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(("page", "tests"), [("faults", 20), ("hub", 7)])
def test_a_page_names_the_tests_of_what_it_says(page, tests):
    assert len(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / f"docs/{page}.md").read_text("utf-8")))) >= tests


def defines(source, name):
    return re.search(rf"^ *(?:def {name}\(|class {name}\b|{name}\b.* = )", source, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_that_a_page_names_exists_and_defines_what_it_says(page):
    missing = []
    for path, name in NAMED.findall(page.read_text("utf-8")):
        if "NAME" in path:  # a placeholder
            continue
        if not (ROOT / path).exists() or (name and not defines((ROOT / path).read_text("utf-8"), name)):
            missing.append(f"{path}::{name}" if name else path)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_of_a_page_leads_somewhere(page):
    targets = LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_tour_names_a_file_of_every_room():
    tour = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = sorted(path.parent.name for path in ROOT.glob("clm/*/__init__.py"))
    assert [room for room in rooms if f"`clm/{room}/" not in tour] == []
