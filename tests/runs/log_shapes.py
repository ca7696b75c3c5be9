"""Logs made by code, in the shape in which each program writes its own. The curve is one that a reader can follow.

The training loss at step s is 4 + 400 / (s + 100): 8 at the start, 6 at 100, 5 at 300; validation lies 0.25 above it.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

STEPS = range(0, 400, 10)
EVALUATED = range(0, 400, 50)
BYTES = 4.5  # a token, of the logs in bits per byte


def train(step: float) -> float:
    return 4 + 400 / (step + 100)


def validation(step: float) -> float:
    return train(step) + 0.25


def nanogpt() -> Iterable[str]:
    yield "tokens per iteration will be: 491,520"
    yield "number of parameters: 123.59M"
    for s in STEPS:
        if s in EVALUATED:
            yield f"step {s}: train loss {train(s):.4f}, val loss {validation(s):.4f}"
            yield "saving checkpoint to out"
        yield f"iter {s}: loss {train(s):.4f}, time 130.20ms, mfu 31.02%"


def nanochat() -> Iterable[str]:
    for s in STEPS:
        if s in EVALUATED:
            yield f"Step {s:05d} | Validation bpb: {validation(s) / math.log(2) / BYTES:.6f}"
        yield (
            f"step {s:05d}/01000 ({s / 10:.2f}%) | loss: {train(s):.6f} | lrm: 1.00 | dt: 310.12ms | "
            "tok/sec: 1,690,000 | mfu: 48.10 | total time: 3.20m"
        )


def llm_c() -> Iterable[str]:
    for s in STEPS:
        if s in EVALUATED:
            yield f"s:{s} tel:{validation(s):.4f}"
            yield f"s:{s} eval:0.2512"
        yield f"s:{s} trl:{train(s):.4f} lr:0.000600 norm:1.25"


def modded_nanogpt() -> Iterable[str]:
    yield "import torch"
    yield "    val_loss /= val_steps  # of all GPUs"
    for s in STEPS:
        if s in EVALUATED:
            yield f"step:{s}/1000 val_loss:{validation(s):.4f} train_time:{93 * s}ms step_avg:93.20ms"
        yield f"step:{s}/1000 train_loss:{train(s):.4f} train_time:{93 * s}ms step_avg:93.20ms"


def litgpt() -> Iterable[str]:
    for s in STEPS[1:]:  # 8 iterations a step
        yield (
            f"Epoch 1 | iter {8 * s} step {s} | loss train: {train(s):.3f}, val: n/a | iter time: 120.00 ms (step) "
            "remaining time: 1:02:03"
        )
        if s in EVALUATED:
            yield f"iter {8 * s}: val loss {validation(s):.4f}, val time: 1200.00 ms"


def trainer(text: bool = False, bars: bool = False) -> Iterable[str]:
    quote = "'" if text else ""
    for s in STEPS[1:]:
        if bars:
            yield f" {s // 10}%|███       | {s}/1000 [00:{s % 60:02d}<01:00,  4.10it/s]"
        loss, norm, epoch = (f"{quote}{value}{quote}" for value in (f"{train(s):.4f}", 0.41, s / 100))
        yield f"{{'loss': {loss}, 'grad_norm': {norm}, 'epoch': {epoch}}}"
        if s in EVALUATED:
            yield f"{{'eval_loss': {quote}{validation(s):.4f}{quote}, 'eval_runtime': 2.1, 'epoch': {s / 100}}}"
    yield "{'train_runtime': 120.5, 'train_loss': 9.9, 'epoch': 4.0}"


def csv(header: str = "step,train_loss,val_loss,lr") -> Iterable[str]:
    yield header
    for s in STEPS:
        yield f"{s},{train(s)},{validation(s) if s in EVALUATED else ''},0.0006"


def jsonl() -> Iterable[str]:
    for s in STEPS:
        yield json.dumps({"_step": s // 10, "train/global_step": s, "train": {"loss": train(s)}, "_runtime": 1.5 * s})
        if s in EVALUATED:
            yield json.dumps(
                {"_step": s // 10, "train/global_step": s, "eval/loss": validation(s), "_runtime": 1.5 * s}
            )


def wandb() -> Iterable[str]:
    run = "brisk-pond-1"
    names = [f"{run} - {metric}{end}" for metric in ("train/loss", "eval/loss") for end in ("", "__MIN", "__MAX")]
    yield ",".join(f'"{name}"' for name in ["Step", *names])
    for s in STEPS:
        losses = [train(s)] * 3 + ([validation(s)] * 3 if s in EVALUATED else [""] * 3)
        yield ",".join(f'"{value}"' for value in [s, *losses])


def trackio() -> Iterable[str]:
    """Two plots of its dashboard, each as its button saves it (trackio's LinePlot.svelte), one after the other."""
    yield from trackio_plot("train/loss", {s: train(s) for s in STEPS})
    yield from trackio_plot("eval/loss", {s: validation(s) for s in EVALUATED})


def trackio_plot(metric: str, values: dict[int, float]) -> Iterable[str]:
    yield f"step,{metric},run"
    yield from (f"{s},{value},calm-lake-2" for s, value in values.items())


def trackio_rows() -> Iterable[str]:
    """Its parquet files' columns (trackio's storage_schema.md), written as CSV."""
    yield "timestamp,run_name,step,train/loss,eval/loss"
    for s in STEPS:
        yield f"2026-01-02T03:04:05,calm-lake-2,{s},{train(s)},{validation(s) if s in EVALUATED else ''}"


def trainer_state() -> str:
    log = [{"epoch": s / 100, "grad_norm": 0.4, "loss": train(s), "step": s} for s in STEPS[1:]]
    log += [{"epoch": s / 100, "eval_loss": validation(s), "eval_runtime": 2.1, "step": s} for s in EVALUATED[1:]]
    log.append({"epoch": 4.0, "train_loss": 9.9, "train_runtime": 120.5, "step": 390})
    state = {"global_step": 390, "log_history": log, "max_steps": 1000, "stateful_callbacks": {"A": {"args": {"x": 1}}}}
    return json.dumps(state, indent=2, sort_keys=True)


def write_events(folder: Path, rows: Iterable[tuple[float, str, int, float]], suffix: str = "") -> None:
    """Rows of (time, tag, step, value) as a TensorBoard event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder), filename_suffix=suffix)
    for time, tag, step, value in rows:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(wall_time=time, step=step, summary=summary))
    writer.close()


TEXTS = {
    "nanoGPT": nanogpt, "nanochat": nanochat, "llm.c": llm_c, "modded-nanogpt": modded_nanogpt, "litgpt": litgpt,
    "CSV": csv, "JSON lines": jsonl, "W&B": wandb, "trackio": trackio,
    "trackio's rows": trackio_rows,
}  # fmt: skip
