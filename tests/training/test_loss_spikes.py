"""Which losses are spikes."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

from clm.training import saving
from clm.training.callbacks.loss_spikes import LossSpikes


def test_the_mean_is_the_plain_one_of_the_first_losses():
    spikes = LossSpikes()
    for loss in (1.0, 2.0, 6.0):
        assert not spikes.is_one(loss)
    assert spikes.mean == 3.0


def test_a_loss_far_above_the_mean_is_one_and_a_new_level_is_so_only_for_a_while():
    spikes = LossSpikes()
    assert not any(spikes.is_one(3.0 + 0.1 * (step % 2)) for step in range(60))
    assert not spikes.is_one(3.5)  # 0.45 above: half a nat is the least
    assert spikes.is_one(4.2) and spikes.is_one(9.0)
    later = [spikes.is_one(4.2) for _ in range(60)]
    assert later[0] and not later[-1]


def test_nothing_is_one_while_the_loss_falls_from_the_start():
    spikes = LossSpikes()
    assert not any(spikes.is_one(10.0 / (1 + step / 10)) for step in range(200))


def test_what_it_knows_is_what_a_checkpoint_keeps():
    spikes, other = LossSpikes(), LossSpikes()
    for step in range(30):
        spikes.is_one(3.0 + 0.1 * (step % 3))
    vars(other).update(spikes.state()["attributes"])
    assert vars(other) == vars(spikes) and other.is_one(3.7)


def test_the_checkpoint_that_a_rollback_goes_to_is_kept(monkeypatch):
    trainer = Mock(_identity={"text": "a", "tokenizer": "b"}, _spikes=LossSpikes())
    trainer.state = SimpleNamespace(global_step=7, log_history=[], stateful_callbacks={})
    trainer.lr_scheduler.state_dict, trainer._best = dict, lambda: Path("checkpoint-3")
    trainer._folder, trainer._spikes.saved_step = lambda step: Path(f"checkpoint-{step}"), 6
    monkeypatch.setattr(saving, "gather_object", list)
    saving.SavingTrainer._hand_over_to_writer(trainer)
    assert trainer._writer.start.call_args.args[4] == {Path("checkpoint-3"), Path("checkpoint-6")}
