"""What the Trainer sets is what plan, explain and forecast assume: one function."""

from types import SimpleNamespace

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers.trainer_utils import SchedulerType

from clm.launch.start import training_arguments
from clm.training import schedule
from clm.training.schedule import FOLLOWS_THE_LOSS, learning_rates
from clm.training.trainer import ClmTrainer

STEPS = 40
NEEDS = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 10},
    "polynomial": {"power": 2.0},
}


def rates_of_the_trainer(training: dict, folder) -> list[float]:
    """The learning rate that each of 40 steps is taken with, by the scheduler that the Trainer makes."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training["learning_rate"])
    args = training_arguments(training | {"output_dir": str(folder), "use_cpu": True})
    scheduler = ClmTrainer.create_scheduler(SimpleNamespace(args=args, lr_scheduler=None, optimizer=optimizer), STEPS)
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0, 0.1, 5])
@pytest.mark.parametrize("kind", [kind.value for kind in SchedulerType if kind.value not in FOLLOWS_THE_LOSS])
def test_the_trainer_sets_what_is_assumed(tmp_path, kind, warmup):
    training = {"lr_scheduler_type": kind, "learning_rate": 0.01, "warmup_steps": warmup}
    training |= {"lr_scheduler_kwargs": NEEDS[kind]} if kind in NEEDS else {}
    assumed = learning_rates(training, STEPS, range(STEPS)).tolist()
    assert assumed == rates_of_the_trainer(training, tmp_path)
    assert kind == "constant" or len(set(assumed)) > 1 or warmup == 0


# Steps of a run of 40, also before its start and after its end; those a forecast asks for needn't be whole.
ASKED = [0, 1, 4, 5, 6, 19.5, 30, 31, 39, 40, 41, 60]


@pytest.mark.parametrize("warmup", [0, 5, 50])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("cosine", {}),
        ("cosine", {"num_cycles": 0.7}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_with_min_lr", {"min_lr_rate": None, "min_lr": 0.003}),
        ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "linear"}),
        ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "linear", "min_lr_ratio": 0.3}),
        ("warmup_stable_decay", {"num_decay_steps": 0, "decay_type": "linear", "min_lr_ratio": 0.3}),
    ],
)
def test_the_usual_schedules_equal_those_of_transformers_to_the_last_bit(kind, options, warmup):
    training = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options, "learning_rate": 0.01}
    training |= {"warmup_steps": warmup}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = schedule.scheduler(optimizer, training, STEPS).lr_lambdas[0]
    assert schedule._usual_factor(training, STEPS) is not None
    assert learning_rates(training, STEPS, ASKED).tolist() == [0.01 * theirs(step) for step in ASKED]


def test_a_new_schedule_is_one_function(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "scheduler", lambda optimizer, training, steps: LambdaLR(optimizer, lambda n: n / 4))
    training = {"learning_rate": 0.5, "lr_scheduler_type": "inverse_sqrt"}  # which isn't computed without torch
    assert learning_rates(training, STEPS, [0, 1, 2]).tolist() == [0, 0.125, 0.25]
    assert rates_of_the_trainer(training, tmp_path)[:3] == [0, 0.125, 0.25]
