"""The rows of benchmarks.regime are read from their names."""

import pytest

from benchmarks.regime.rows import SIZES, read
from benchmarks.regime.tables import TABLES


def test_a_name_says_what_is_changed_and_the_rest_is_wt103s():
    row = read("rate 0.01, cosine to 0, wd 1.6, epochs 50, decay cautious, rows balanced, ema 0.99", SIZES["large"])
    assert (row.keys["learning_rate"], row.keys["weight_decay"], row.keys["num_train_epochs"]) == (0.01, 1.6, 50)
    assert (row.keys["lr_scheduler_type"], row.keys["n_embd"], row.keys["adam_beta2"]) == ("cosine", 96, 0.95)
    assert row.parts == {"decay": "cautious", "rows balanced": True, "ema": 0.99}
    changed = read("dropout 0.3, attention dropout 0.2, batch 4", SIZES["small"]).keys
    assert [changed[key] for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop")] == [0.3, 0.3, 0.2]
    assert changed["per_device_train_batch_size"] == 4


def test_every_row_of_the_tables_can_be_read():
    for table in TABLES.values():
        for name in table.rows:
            read(name, SIZES[table.sizes[0]])


def test_a_change_that_nothing_knows_is_refused():
    with pytest.raises(SystemExit, match="no change is called 'wdd 3'"):
        read("wdd 3", SIZES["small"])
