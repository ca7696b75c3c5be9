"""run_clm.py under accelerate's own FSDP2, on a CPU: accelerate has what it takes, but would run DDP there.

    accelerate launch --config_file recipes/accelerate/fsdp2.yaml --num_processes 2 tests/fsdp2_on_gloo.py --config …

Only that choice is changed here; models are sharded, trained, gathered and saved by the code that does it on GPUs.
"""

import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

import run_clm
from clm.launch import preflight
from clm.training.checkpoint import sharding
from clm.training.sharded import ShardedTrainer
from tests.tiny import muon_in_fp32

_stock = AcceleratorState.__init__


def _with_fsdp(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _stock(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)


def _full_of_shards(self: ShardedTrainer) -> Any:
    assert sharding.is_sharded(self.model), "this was to be FSDP2"
    return _stock_full(self)


_stock_full = ShardedTrainer.full_model

if __name__ == "__main__":
    ShardedTrainer.full_model = _full_of_shards
    AcceleratorState.__init__ = _with_fsdp
    preflight.check_engine = lambda args: None
    with muon_in_fp32():
        sys.exit(run_clm.main())
