"""Shapes for a budget."""

import pytest

from clm.config.recipe import load
from clm.errors import UserError
from clm.model.flops import flops_per_token
from clm.plan import shapes
from clm.plan.devices import GPUS
from tests.tiny import ROOT

WT103 = ROOT / "recipes" / "wt103.json"
H100 = GPUS["h100"]


def test_every_shape_spends_the_budget_and_the_best_comes_first():
    found = shapes.for_budget(load(WT103), H100, flops=1e18)
    assert len(found) == shapes.MOST
    for shape in found:
        in_matmuls = shape.parameters - 1024 * shape.n_embd
        assert shape.flops == pytest.approx(1e18, rel=0.001)
        assert shape.tokens * flops_per_token(in_matmuls, shape.n_layer, shape.n_embd, 1024) == shape.flops
        assert shape.seconds == pytest.approx(1e18 / (989e12 * 0.4), rel=0.001)
        assert shape.n_embd == 64 * shape.n_head and 25 <= shape.n_embd / shape.n_layer <= 130
        assert shape.epochs == pytest.approx(shape.tokens / 116_944_985)
    assert [shape.loss for shape in found] == sorted(shape.loss for shape in found)


def test_twice_the_budget_is_expected_to_give_a_lower_loss():
    low, high = (shapes.for_budget(load(WT103), H100, flops=flops)[0].loss for flops in (5e17, 1e18))
    assert high < low


def test_parameters_are_kept_to_and_trained_on_20_tokens_each():
    found = shapes.for_budget(load(WT103), H100, parameters=110e6)
    assert (12, 768) in {(shape.n_layer, shape.n_embd) for shape in found}
    for shape in found:
        assert 110e6 * 0.85 <= shape.parameters <= 110e6 * 1.15
        assert shape.tokens == pytest.approx(20 * shape.parameters, rel=0.001)


def test_both_may_be_given():
    for shape in shapes.for_budget(load(WT103), H100, flops=1e17, parameters=110e6):
        assert shape.flops == pytest.approx(1e17, rel=0.001) and abs(shape.parameters / 110e6 - 1) <= 0.15


def test_a_budget_that_no_shape_fits_is_the_users_fault():
    with pytest.raises(UserError, match="no shape for 1e\\+30 FLOPs on 117 M tokens"):
        shapes.for_budget(load(WT103), H100, flops=1e30)
