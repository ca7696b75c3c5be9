"""How fast a run trains, and where its time goes."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import TrainingArguments

from clm.launch import hardware
from clm.model.flops import flops_per_token
from clm.model.gpt2 import GPT2LMHeadModel
from clm.model.matmul_rate import peak_flops


class Throughput:
    """Counts tokens and seconds of training, and of what training waits for.

    Speeds are of the time since the last reading, evaluations and the saving that training waits for left out.
    """

    def __init__(self, tokens_per_step: int, flops_per_token: float, peak_flops: float | None) -> None:
        """Take tokens of an optimizer step over all processes, and the FLOP/s that all devices together can do."""
        self._tokens_per_step, self._flops_per_token, self._peak_flops = tokens_per_step, flops_per_token, peak_flops
        self.seconds = {"evaluation": 0.0, "saving": 0.0, "data": 0.0, "logging": 0.0}
        self.start(0, 0.0)

    def start(self, step: int, elapsed_seconds: float) -> None:
        """The run begins, or goes on after `step`, which took `elapsed_seconds` until now."""
        self._began = time.perf_counter() - elapsed_seconds
        self._before = (step, time.perf_counter(), self._apart())
        self._started = time.perf_counter()

    def _apart(self) -> float:
        return self.seconds["evaluation"] + self.seconds["saving"]

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Count the time of the block as spent on `what`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started

    def read(self, step: int) -> dict[str, float]:
        """What is logged at `step`: tokens_per_second, tflops, mfu (of a known peak), memory_gb, elapsed_seconds."""
        now, apart = time.perf_counter(), self._apart()
        last_step, last_time, last_apart = self._before
        self._before = (step, now, apart)
        speed = (step - last_step) * self._tokens_per_step / max(now - last_time - (apart - last_apart), 1e-9)
        rates = {"tokens_per_second": round(speed, 1), "tflops": round(speed * self._flops_per_token / 1e12, 4)}
        if self._peak_flops:
            rates["mfu"] = round(speed * self._flops_per_token / self._peak_flops, 4)
        return {**rates, "memory_gb": round(peak_memory() / 1e9, 3), "elapsed_seconds": round(now - self._began, 2)}

    def results(self, steps: int) -> dict[str, float]:
        """What train_results.json holds of this start's `steps`: mean speed, and shares of the whole time."""
        whole = max(time.perf_counter() - self._started, 1e-9)
        speed = steps * self._tokens_per_step / max(whole - self._apart(), 1e-9)
        results = {"tokens_per_second": round(speed, 1), "tflops": round(speed * self._flops_per_token / 1e12, 4)}
        if self._peak_flops:
            results["mfu"] = round(speed * self._flops_per_token / self._peak_flops, 4)
        return results | {f"{what}_share": round(seconds / whole, 4) for what, seconds in self.seconds.items()}


def throughput_of(model: GPT2LMHeadModel, args: TrainingArguments) -> Throughput:
    """The clock of a run with this model, from the shape of its config; its teachers' work counts too."""
    config, device = model.config, args.device.type
    sequences = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    in_matmuls = model.num_parameters() - config.n_positions * config.n_embd
    flops = flops_per_token(in_matmuls, config.n_layer, config.n_embd, config.n_positions)
    flops += model.teachers.flops_per_token(config.n_positions) if model.teachers else 0
    peak = peak_flops(device, hardware.device_name(device), bool(args.bf16 or args.fp16))
    return Throughput(sequences * config.n_positions, flops, peak and peak * args.world_size)


def peak_memory() -> int:
    """Bytes that this process had at most: of the GPU where there is one, else resident in main memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
