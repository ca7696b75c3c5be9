"""The ways to launch a run on many devices: what each takes in memory, network, time and money. All are estimates."""

from dataclasses import dataclass

from clm.plan import communication, memory
from clm.plan.communication import Communication
from clm.plan.devices import Device
from clm.plan.memory import Memory, Shape


@dataclass(frozen=True)
class Launch:
    """One way. `communication` is None where nothing is sent, or nothing is known of the links.

    Attributes:
        step_seconds: of an optimizer step.
        seconds: of all of them; evaluations, saving and the start come on top.
        dollars: of all devices for that long; 0 where the device has no price.
    """

    memory: Memory
    fits: bool
    communication: Communication | None
    step_seconds: float
    seconds: float
    dollars: float


def launches(shape: Shape, device: Device, devices: int, step_flops: float, steps: int) -> dict[str, Launch]:
    """Every way by its name, the plain one first. `step_flops` are those of all devices in a step."""
    compute = step_flops / devices / (device.flops * device.utilisation)
    ways = {"ddp": (memory.ddp, communication.ddp, True)}
    if devices > 1:
        ways["fsdp2"] = (memory.fsdp2, communication.fsdp2, False)
        ways["deepspeed zero2"] = (memory.zero2, communication.zero2, False)
    made = {}
    for name, (need, talk, once_a_step) in ways.items():
        told = talk(shape, device, devices) if devices > 1 and device.link is not None else None
        hidden = communication.hidden_seconds(compute, shape.accumulation, once_a_step)
        step_seconds = compute + max(0.0, told.seconds - hidden if told else 0.0)
        seconds = step_seconds * steps
        needed = need(shape, devices)
        made[name if devices > 1 else "one process"] = Launch(
            memory=needed,
            fits=memory.fits(needed, device.memory),
            communication=told,
            step_seconds=step_seconds,
            seconds=seconds,
            dollars=seconds / 3600 * devices * device.price,
        )
    return made
