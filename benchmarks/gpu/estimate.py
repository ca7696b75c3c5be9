"""What `plan` says beforehand, beside what comes."""

from collections.abc import Iterator

from benchmarks.gpu import speed
from benchmarks.gpu.commands import write
from benchmarks.gpu.rows import Row, fact, number
from benchmarks.gpu.setting import Setting
from clm.config.recipe import load
from clm.plan import plan
from clm.plan.memory import PROCESS_BYTES

TOKENS = 2_000_000  # of a text; any will do, the plan being compared step by step


def check(setting: Setting) -> Iterator[Row]:
    """Prove that the estimate of this machine is no more than twice off in speed, and a quarter in memory.

    At the largest micro-batch that the plan says fits, up to 32: a small one is bound by launches, not by arithmetic.
    The plan counts half a gigabyte for the process, which torch doesn't see in its own peak.
    """
    for batch in sorted((batch for batch in setting.sizes.micro_batches if batch <= 32), reverse=True):
        recipe = setting.recipe(setting.sizes.shape, per_device_train_batch_size=batch, max_steps=100)
        made = plan.make(load(write(recipe, setting.folder / "plan")), dataset_tokens=TOKENS)
        [way] = made.launches.values()
        if way.fits:
            break
    yield fact(f"{batch} x fits, as planned", way.fits, "yes" if way.fits else "no", "yes")
    measured = speed.train(setting, batch)
    planned = made.tokens_per_step / way.step_seconds
    yield from speed.rows_of(f"{batch} x measured", measured)
    yield number(f"{batch} x planned", planned, f"tokens/s, {(way.memory.total - PROCESS_BYTES) / 1e9:.2f} GB")
    ratio = measured.tokens_per_second / planned
    yield number("speed, measured to planned", ratio, at_least=0.5, at_most=2)
    ratio = measured.memory_gb * 1e9 / (way.memory.total - PROCESS_BYTES)
    yield number("memory, measured to planned", ratio, at_least=0.75, at_most=1.25)
