"""How often the host waits for the device: never in a micro-batch, once in a step.

Counted on the CPU, where a number that is read is the same operation (`_local_scalar_dense`) as on a GPU. What reads
many at once, `step.read`, is no operation there, so it is counted by its calls. The loss is cut as on a GPU: a CPU's
looks at numbers, which costs nothing there.
"""

from itertools import pairwise

import pytest
from transformers import TrainerCallback

from clm.model import loss as loss_module
from clm.model.chunks import chunks
from clm.training import trainer as training
from clm.training.micro_batch import MicroBatchTrainer
from tests.launches import Launches
from tests.tiny import run, write_recipe


@pytest.fixture
def counted(monkeypatch):
    """Reads of each step and of each micro-batch of the runs that follow."""
    asked, in_steps, in_micro_batches, at_once = Launches(), [], [], []
    read, training_step, init = training.read, MicroBatchTrainer.training_step, MicroBatchTrainer.__init__

    def counting_read(*scalars):
        at_once.append(len(scalars))
        return read(*scalars)

    def counting_step(*args, **kwargs):
        before = asked.host_reads
        loss = training_step(*args, **kwargs)
        in_micro_batches.append(asked.host_reads - before)
        return loss

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            in_steps.append(asked.host_reads + len(at_once))

    def watched(trainer, **kwargs):
        init(trainer, **kwargs)
        trainer.add_callback(Watch())

    monkeypatch.setattr(loss_module, "of_device", lambda device, *size: chunks("cuda", *size, memory=80 * 2**30))
    monkeypatch.setattr(training, "read", counting_read)
    monkeypatch.setattr(MicroBatchTrainer, "training_step", counting_step)
    monkeypatch.setattr(MicroBatchTrainer, "__init__", watched)
    with asked:
        yield lambda: (
            [after - before for before, after in pairwise(in_steps)],
            in_micro_batches,
        )


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "muon"])
def test_the_host_reads_once_in_a_step_and_never_in_a_micro_batch(workplace, counted, optim):
    # 3 micro-batches of 4 blocks; 10 steps are within the first epoch. A step that is logged reads once more, but from
    # main memory: the loss was read with the rest.
    write_recipe(
        optim=optim, max_steps=10, logging_steps=4, eval_strategy="no", load_best_model_at_end=False, save_steps=100
    )
    assert run() == 0
    in_steps, in_micro_batches = counted()
    assert in_steps == [1, 1, 1, 2, 1, 1, 1, 2, 1]
    assert in_micro_batches == [0] * 30
