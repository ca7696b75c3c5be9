"""sweep.html: what it says, and in a real Chromium that it is quiet, asks for nothing and fits."""

import pytest

from clm.sweep import page
from clm.sweep.findings import find
from clm.sweep.scatter import ticks
from clm.sweep.study import Outcome, Study
from tests.browser import CHROMIUM, browser
from tests.runs.run_folder import make_run
from tests.sweep.made import BOTH, make_sweep, outcome, run_through


@pytest.fixture
def made(workplace):
    """A sweep of 12 trials of two keys, one diverged and one failed, whose best two have their folders."""
    sweep = make_sweep(vary=BOTH | {"optim": {"choices": ["muon", "adamw_torch"]}}, trials=12, repeats=1, flat=0.1)
    study = Study(sweep)

    def ended(one) -> Outcome:
        if one.number in (3, 4):
            return Outcome("diverged" if one.number == 3 else "failed", reason="it </script> broke")
        return outcome(3.0 + one.values["learning_rate"] + 0.1 * one.values["n_layer"])

    run_through(study, ended)
    found = find(sweep, study.trials)
    for trial in sorted((t for t in study.trials[:12] if t.value), key=lambda t: t.value)[:2]:
        make_run(sweep.output_dir / f"trial-{trial.number}")
    return sweep, found


def test_the_page_has_every_trial_every_key_and_how_sure_it_is(made):
    sweep, found = made
    text = page.page(sweep, found)
    assert text.count("<circle") + text.count('<path class="beyond"') == 3 * 10
    assert text.count('<svg class="scatter"') == 3 and "What mattered" in text
    assert all(line in text for line in found.sure[:1]) and "it &lt;/script&gt; broke" in text
    assert "sweep/best.json" in text and "http://" not in text.replace("http://www.w3.org", "")


def test_ticks_are_round():
    assert ticks(0.13, 0.52, 5) == [0.2, 0.3, 0.4, 0.5]
    assert ticks(4.8, 5.6, 5) == [4.8, 5.0, 5.2, 5.4, 5.6]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_a_word_asks_for_nothing_and_fits(made, tmp_path, width):
    path = page.write(*made)
    with browser(tmp_path / "profile") as tab:
        tab.open(path, width, dark=width == 390)
        assert tab.evaluate("document.querySelectorAll('#charts .plot polyline').length") == 2
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.complaints == [] and tab.requests == [path.resolve().as_uri()]
        tab.picture(tmp_path / "shot.png")
