"""A plan as a page for the terminal: what is an estimate has a ~, and its assumption below."""

from clm.numbers import duration
from clm.plan.launches import Launch
from clm.plan.plan import Plan

_MEMORY = ("weights", "gradients", "optimizer", "activations", "loss", "total")
_NAMES = {
    "dataset_tokens": "training text",
    "micro_batch": "micro-batch",
    "seconds": "time",
    "communication": "network",
    "dollars": "cost",
}


def plan_page(plan: Plan) -> str:
    """The page."""
    about = "~" if plan.notes["dataset_tokens"].startswith("estimate") else ""
    memory = f"of {plan.device_memory / 1e9:.0f} GB in each process, for micro-batches of {plan.micro_batch:,}"
    rows = [
        ("parameters", f"{plan.parameters:,}", f"{plan.non_embedding_parameters:,} without embeddings"),
        ("tokens a step", f"{plan.tokens_per_step:,}", f"{plan.sequences_per_step:,} sequences"),
        ("training text", f"{about}{plan.dataset_tokens:,}", "tokens"),
        (
            "steps an epoch",
            f"{about}{plan.full_steps_per_epoch:,}",
            f"full ones{' and a short one' if plan.short_last_step else ''}, {plan.samples_per_epoch:,} samples",
        ),
        ("steps", f"{plan.steps:,}", f"{plan.epochs:.2f} epochs, {plan.training_tokens:,} tokens"),
        ("memory", f"~{plan.memory_bytes / 1e9:.1f} GB", memory),
        ("time", f"~{duration(plan.seconds)}", f"{plan.flops:.2e} FLOPs on {plan.processes:,} x {plan.device}"),
    ]
    if plan.dollars:
        rows.append(("cost", f"~${plan.dollars:,.0f}", "for the devices"))
    return "\n".join(
        [
            *_columns(rows),
            "",
            *_launches(plan),
            *_verdict(plan),
            "",
            *(f"{_NAMES.get(key, key)}: {note}" for key, note in plan.notes.items()),
        ]
    )


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{name:<{left}}  {value:>{middle}}  {what}" for name, value, what in rows]


def _launches(plan: Plan) -> list[str]:
    head = ["GB a device", *_MEMORY, "step", "sent", "time", "cost"]
    table = [head, *(_row(name, launch) for name, launch in plan.launches.items())]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]


def _row(name: str, launch: Launch) -> list[str]:
    sent = f"{launch.communication.sent / 1e9:.2f} GB" if launch.communication else "-"
    return [
        name,
        *(f"{getattr(launch.memory, what) / 1e9:.2f}" for what in _MEMORY),
        f"{launch.step_seconds * 1e3:,.0f} ms",
        sent,
        duration(launch.seconds),
        f"${launch.dollars:,.0f}" if launch.dollars else "-",
    ]


def _verdict(plan: Plan) -> list[str]:
    if plan.remedy == []:
        return []
    if plan.remedy is None:
        return ["doesn't fit, and no setting here makes it: more or larger devices, or a smaller model"]
    return [f"doesn't fit; it would with: {', '.join(plan.remedy)}"]
