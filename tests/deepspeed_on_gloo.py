"""run_clm.py under DeepSpeed on a CPU: accelerate would run DDP there; only that choice is changed here."""

import importlib
import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

import run_clm
from clm.launch import preflight

_stock = AcceleratorState.__init__


def _with_deepspeed(self: AcceleratorState, *args: Any, deepspeed_plugin: Any = None, **kwargs: Any) -> None:
    _stock(self, *args, deepspeed_plugin=deepspeed_plugin, **kwargs)
    if deepspeed_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.DEEPSPEED
        PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
        plugins = deepspeed_plugin if isinstance(deepspeed_plugin, dict) else {"default": deepspeed_plugin}
        for plugin in plugins.values():
            plugin.set_mixed_precision(self._mixed_precision)
        next(iter(plugins.values())).select(_from_accelerator_state=True)
        self.deepspeed_plugins = plugins


if __name__ == "__main__":
    # What it would compile first. As `deepspeed.comm.torch` that module isn't there: torch itself has its name.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    AcceleratorState.__init__ = _with_deepspeed
    preflight.check_engine = lambda args: None
    sys.exit(run_clm.main())
