"""report.html in a real Chromium: it says nothing to the console, asks for nothing, fits, and reads values out."""

import json

import pytest

from clm.report.report import write_comparison, write_report
from tests.browser import CHROMIUM, browser
from tests.runs.run_folder import explanation, make_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
ATTACK = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">" + "long" * 80


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """report.html of a run whose every text is an attack, and a comparison."""
    place = tmp_path_factory.mktemp("runs")
    folder = make_run(place / "made", dataset_name=ATTACK, **{ATTACK: ATTACK})
    samples = [{"step": s, "prompt": ATTACK, "mode": m, "text": ATTACK} for s in (5, 10) for m in ("greedy", "sampled")]
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    write_report(folder, explanation(ATTACK))
    others = [make_run(place / name, loss=4.0, learning_rate=0.1) for name in ("b" * 60, "c")]
    write_comparison([folder, *others], place / "comparison.html")
    return folder / "report.html", place / "comparison.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("number", [0, 1], ids=["report", "comparison"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_a_word_asks_for_nothing_and_fits(tab, pages, number, width):
    tab.complaints.clear(), tab.requests.clear()
    tab.open(pages[number], width, dark=width == 390)
    assert tab.evaluate("document.querySelectorAll('#charts .plot polyline').length") >= 6
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.complaints == [] and tab.requests == [pages[number].resolve().as_uri()]
    assert tab.evaluate("document.title") != "taken"


def test_values_are_read_out_by_keys_and_pointer_on_every_axis(tab, pages):
    tab.open(pages[0], 1280)
    said = "document.querySelector('.plot').getAttribute('aria-valuetext')"
    tab.evaluate("document.querySelector('.plot').focus()")
    tab.press("Home")
    assert tab.evaluate(said).startswith("step 1, training 4.9, validation 4.75")
    tab.press("ArrowRight")
    assert tab.evaluate(said).startswith("step 2, training 4.8")
    tab.evaluate("document.querySelector('input[value=tokens]').click()")
    tab.press("Home")
    assert tab.evaluate(said).startswith("16 tokens, training 4.9")
    tab.evaluate("document.querySelector('input[value=seconds]').click()")
    tab.evaluate("document.querySelector('input[value=log]').click()")
    box = json.loads(tab.evaluate("JSON.stringify(document.querySelector('.plot').getBoundingClientRect())"))
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=box["right"] - 15, y=box["top"] + 50)
    assert tab.evaluate(said).startswith("40 s, training 4, validation 4.25")
    assert "forecast 3.5" in tab.evaluate(said)


def test_a_curve_can_be_put_away(tab, pages):
    tab.open(pages[0], 1280)
    drawn = "document.querySelectorAll('.main .curve polyline').length"
    before = tab.evaluate(drawn)
    tab.evaluate("document.querySelector('.legend button').click()")
    assert tab.evaluate(drawn) == before - 1
