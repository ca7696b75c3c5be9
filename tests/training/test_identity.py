"""What makes a run another one, so that a checkpoint of it is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from clm.config.recipe import DataOptions, ModelOptions
from clm.training.checkpoint.identity import run_identity

SHAPE_THE_WEIGHTS = (
    *("seed", "data_seed", "optim", "optim_args", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2"),
    *("adam_epsilon", "max_grad_norm", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "world_size"),
)


MODEL, DATA = ModelOptions(), DataOptions()


def identity(model=MODEL, data=DATA, **changes):
    args = SimpleNamespace(**dict.fromkeys(SHAPE_THE_WEIGHTS, 1) | {"logging_steps": 1} | changes)
    return run_identity(args, model, data, {"text": "a"})


@pytest.mark.parametrize("key", SHAPE_THE_WEIGHTS)
def test_an_argument_that_shapes_the_weights_makes_another_run(key):
    assert identity(**{key: 2}) != identity()


def test_so_do_the_model_and_the_samples_but_not_how_often_is_logged():
    assert identity(model=replace(MODEL, resid_pdrop=0.2)) != identity()
    for key, value in (("block_size", 8), ("sampling", "windows"), ("shift_blocks", False)):
        assert identity(data=replace(DATA, **{key: value})) != identity()
    assert identity(logging_steps=2) == identity()
    assert identity(per_device_train_batch_size=2, gradient_accumulation_steps=3) == identity(
        per_device_train_batch_size=3, gradient_accumulation_steps=2
    )
