"""A warmup that is longer than the run is said, with the rate that it ends at."""

from clm.training.schedule import endless_warmup
from tests.tiny import run


def test_only_a_warmup_that_does_not_end_is_said():
    assert endless_warmup({"warmup_steps": 100}, 100) is None
    assert endless_warmup({"warmup_steps": 0.02}, 3) is None
    line = endless_warmup({"warmup_steps": 2_000}, 500)
    assert "warmup_steps 2,000 are more than the run's 500 steps" in line and "is 25% of learning_rate" in line


def test_a_run_says_it_before_it_trains(workplace, capsys):
    assert run("--warmup_steps", "60") == 0
    said = capsys.readouterr().out
    assert said.count("warmup_steps 60 are more than the run's 6 steps") == 1 and "is 10% of learning_rate" in said
    assert said.index("warmup_steps 60") < said.index("validation loss")
