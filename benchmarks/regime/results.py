"""A benchmark's file of runs: one run a line, added to by whichever machine made it.

Products of bf16 in AMX tiles sum in another order than AVX-512's, so a run with them ends elsewhere. With
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 a CPU that has them does without, and gives the losses of one that hasn't. A CPU
without bf16 trains in fp32 instead.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from clm.files import write_text
from clm.launch.hardware import has_bf16


def arithmetic() -> str:
    """What a run multiplies in here: `bf16`, `amx` (bf16, in its tiles) or `fp32`."""
    if torch.cpu._is_amx_tile_supported() and not os.environ.get("ONEDNN_MAX_CPU_ISA", "").startswith("AVX"):
        return "amx"
    return "bf16" if has_bf16("cpu") else "fp32"


def arithmetic_of(run: dict[str, Any]) -> str:
    """The same of a run that was kept."""
    return run.get("arithmetic", "bf16")


@dataclass(frozen=True)
class Results:
    """The file; its `machine` is that of the first run. A run of another CPU names its `cpu` and its `arithmetic`."""

    file: Path

    def known(self) -> dict[str, Any]:
        """`machine` and `runs`."""
        return json.loads(self.file.read_text("utf-8")) if self.file.exists() else {"machine": machine(), "runs": []}

    def keep(self, run: dict[str, Any]) -> dict[str, Any]:
        """Add a run at the end; return it as it was written."""
        report, cpu = self.known(), machine()["cpu"]
        run = run | ({} if cpu == report["machine"]["cpu"] else {"cpu": cpu})
        run |= {} if arithmetic() == "bf16" else {"arithmetic": arithmetic()}
        runs = ",\n".join(json.dumps(each) for each in [*report["runs"], run])
        write_text(self.file, f'{{"machine": {json.dumps(report["machine"])},\n"runs": [\n{runs}\n]}}\n')
        return run
