"""Liger's loss on a CPU, where its packages are (requirements-gpu.txt)."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from tests.tiny import ROOT


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for tensors of a CPU")
@pytest.mark.skipif(not importlib.util.find_spec("liger_kernel"), reason="liger-kernel isn't installed")
def test_ligers_loss_and_gradients_equal_ours_in_tritons_interpreter():
    """What a GPU's own arithmetic makes of it, and how fast, isn't shown by this."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "tests/model/liger_interpreted.py"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr
