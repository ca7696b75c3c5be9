"""Recipe in, trained model out: `accelerate launch run_clm.py --config recipes/quickstart.json [--key value ...]`.

Type the same command again to go on from the newest checkpoint. `--dry_run` says what would run and stops.
"""

import os
import sys

from clm.launch import signals

if __name__ == "__main__":
    signals.end_at_once()  # while there is nothing to save: the imports alone take seconds

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils.logging import disable_progress_bar

from clm.config.recipe import Recipe, parse
from clm.data.blocks import Blocks, count_steps
from clm.data.prepare import Prepared, known_identity, open_text, prepare
from clm.errors import MachineError, Stopped, UserError
from clm.evaluation import published
from clm.evaluation.scoring import score_store
from clm.explain import explain
from clm.explain.run_folder import of_statistics, text_in_figures
from clm.explain.setup import Setup
from clm.files import Made
from clm.hub.beside import check, uploads
from clm.hub.fetch import fetch
from clm.launch import acceleration, faults, hardware, preflight, processes, run_lock
from clm.model.generation import DEFAULT_PROMPTS, continue_prompts
from clm.model.gpt2 import fresh_model
from clm.plan import page, plan
from clm.report import card
from clm.report.report import write_report
from clm.runs import outputs, summary
from clm.training import optim
from clm.training.callbacks.energy import EnergyMeter
from clm.training.callbacks.progress import TrainingProgress
from clm.training.callbacks.samples import SampleLog
from clm.training.checkpoint import find as checkpoint
from clm.training.checkpoint.writer import Saved
from clm.training.throughput import throughput_of
from clm.training.trainer import ClmTrainer

Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe; the exit code is 0 for done, 2 for a fault in the input, 74 for the machine's, 75 for a stop."""
    try:
        with signals.caught(), faults.machine_faults(), processes.processes():
            run(parse(sys.argv[1:] if argv is None else argv))
    except (UserError, MachineError, Stopped) as error:
        rank = "LOCAL_RANK" if isinstance(error, MachineError) else "RANK"  # of another machine, each has its own log
        if os.environ.get(rank, "0") == "0":
            print(f"{'stopped' if isinstance(error, Stopped) else 'error'}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(recipe: Recipe) -> None:
    """Parse, prepare, train, evaluate, report: every step's result is on disk before the next one needs it."""
    if recipe.flags.dry_run:
        print(page.describe(plan.make(recipe)))
        return
    if recipe.run.stop_after_minutes:
        signals.stop_after(recipe.run.stop_after_minutes)
    output_dir = Path(recipe.training["output_dir"])
    args, say = start(recipe, output_dir)
    with run_lock.held(output_dir, say):
        train(recipe, args, output_dir, say)


def train(recipe: Recipe, args: TrainingArguments, output_dir: Path, say: Say) -> None:
    """The run, in an output_dir that is its own."""
    wish, needs_best = recipe.run.resume_from_checkpoint, bool(args.load_best_model_at_end)
    if wish == "hub":
        processes.on_main(lambda: fetch(output_dir, recipe.training, needs_best, say))
    resume_from = processes.on_main(lambda: checkpoint.find(output_dir, wish, needs_best, say))
    processes.on_main(lambda: checkpoint.remove_leftovers(output_dir))
    finished_steps = processes.finished_steps(output_dir)
    earlier = [folder for folder in (resume_from, output_dir if finished_steps else None) if folder]
    data, blocks, identity = prepare_blocks(recipe, args, earlier, say)
    total_steps = plan_steps(args, blocks, say)
    if total_steps == finished_steps:
        say(f"{output_dir} holds this run, finished after {total_steps:,} steps: nothing to do")
        return
    if resume_from is not None:
        checkpoint.announce(resume_from, total_steps, args.world_size, say)
    elif finished_steps:
        raise UserError(
            f"{output_dir} holds this run, finished after {finished_steps:,} steps, and no checkpoint to go on from: "
            "set another output_dir"
        )
    about_text = text_in_figures(data)
    setup = of_statistics(recipe, about_text, checkpoint.sequences_per_step(args))
    steps_left = total_steps - (checkpoint.step_of(resume_from.resolve()) if resume_from else 0)
    say("\n".join(acceleration.choose(args, recipe, setup.parameters, steps_left * setup.tokens_per_step)))
    identity = {**identity, "total_steps": total_steps}
    with uploads(output_dir, recipe.training, say) as saved:
        trainer = make_trainer(recipe, args, data, blocks, identity, setup, resume_from, saved)
        with processes.status_of(output_dir, total_steps), faults.machine_faults():
            if processes.main_process():
                outputs.write_start(recipe, identity, about_text, args)
            with signals.deferred():
                result = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
            finish(recipe, trainer, data, result.metrics, about_text["unigram_loss"], say)
            say(explain.verdict_line(setup, trainer.state.log_history) or "verdict: can't say, nothing was evaluated")


def start(recipe: Recipe, output_dir: Path) -> tuple[TrainingArguments, Say]:
    """Fit the recipe to this machine and this launch, before any work."""
    preflight.check_precision(bool(recipe.training["bf16"]))
    preflight.check_writable("output_dir", output_dir)
    preflight.check_writable("cache_dir", Path(recipe.data.cache_dir))
    decision = hardware.fit(recipe.training)
    processes.join_on_cpu(decision.training)
    try:
        args = optim.training_arguments(decision.training)
    except (ValueError, ImportError) as error:
        raise UserError(f"{recipe.path}: {' '.join(str(error).split())}") from None
    args.gradient_accumulation_steps = recipe.accumulation(args.world_size)
    preflight.check_processes()
    preflight.check_engine(args)
    preflight.check_shared(output_dir)
    optim.check_launch(args.optim)
    preflight.check_trackers(args.report_to)
    processes.on_main(lambda: check(recipe.training))
    args.push_to_hub = False  # the stock Trainer would wait for the Hub, and end where that fails
    disable_progress_bar()  # transformers' own, one for each file of a checkpoint
    say: Say = partial(print, flush=True) if processes.main_process() else lambda _: None
    say(f"recipe: {recipe.path}\naccelerate file: {preflight.accelerate_file()}, processes: {args.world_size}")
    say("\n".join(decision.lines))
    return args, say


def prepare_blocks(
    recipe: Recipe, args: TrainingArguments, earlier: list[Path], say: Say
) -> tuple[Prepared, Blocks, dict[str, Any]]:
    """The text as samples, and the run's identity; the folders of an earlier run must be this one's.

    That is checked before any work as far as it can be.
    """

    def identity(of_data: dict[str, Any]) -> dict[str, Any]:
        ours = checkpoint.run_identity(args, recipe.model, recipe.data, of_data)
        for folder in earlier:
            checkpoint.refuse_other_run(folder, ours)
        return ours

    with Made() as made:
        with processes.first_of_each_machine():  # machines share what they build through locks
            text = open_text(recipe.data, args.seed)
            identity(known_identity(recipe.data, text))
            data = prepare(recipe.data, text, recipe.flags.verify_data, say, made)
        PartialState().wait_for_everyone()  # what is taken back must not be in use elsewhere
        blocks = Blocks(data.train, recipe.data.block_size, recipe.data.sampling, recipe.data.shift_blocks)
        return data, blocks, identity(data.identity)


def plan_steps(args: TrainingArguments, blocks: Blocks, say: Say) -> int:
    """Say what an epoch is made of; the optimizer steps of the whole run."""
    sequences = checkpoint.sequences_per_step(args)
    epoch = count_steps(len(blocks), sequences)
    total = plan.total_steps(epoch, args.max_steps, args.num_train_epochs)
    say(
        f"training text: {blocks.store.tokens:,} tokens in {blocks.store.totals.documents:,} documents; "
        f"{len(blocks):,} {blocks.sampling} of {blocks.block_size:,}, {blocks.unused_tokens:,} tokens left over"
    )
    say(
        f"steps: {total:,} of {sequences:,} sequences ({sequences * blocks.block_size:,} tokens); an epoch has "
        f"{epoch.full:,} full ones{' and a short one' if epoch.short else ''}"
    )
    return total


def make_trainer(
    recipe: Recipe,
    args: TrainingArguments,
    data: Prepared,
    blocks: Blocks,
    identity: dict[str, Any],
    setup: Setup,
    resume_from: Path | None,
    saved: Saved,
) -> ClmTrainer:
    """A fresh model and the Trainer that will train or resume it."""
    set_seed(args.seed)
    model = fresh_model(recipe.model, blocks.block_size, data.tokenizer)
    model.liger, args.use_liger_kernel = args.use_liger_kernel, False  # the stock Trainer would exchange more
    trainer = ClmTrainer(
        model=model,
        args=args,
        train_dataset=blocks,
        evaluate_fn=lambda model: evaluate(model, data, blocks.block_size, args),
        identity=identity,
        resume_from=resume_from,
        saved=saved,
        throughput=throughput_of(model, args),
        loss_spike=recipe.run.loss_spike,
        eval_dataset=data.validation,
        processing_class=data.tokenizer,
        callbacks=[
            TrainingProgress(partial(explain.verdict_line, setup)),
            SampleLog(data.tokenizer, recipe.run.prompts or DEFAULT_PROMPTS),
            EnergyMeter(),
        ],
    )
    if recipe.run.early_stopping_patience is not None:
        stopping = EarlyStoppingCallback(recipe.run.early_stopping_patience, recipe.run.early_stopping_threshold)
        trainer.add_callback(stopping)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def evaluate(model: torch.nn.Module, data: Prepared, block_size: int, args: TrainingArguments) -> dict[str, float]:
    """The validation text's metrics, the same on every process; Stopped where a signal comes meanwhile."""
    score = score_store(model, data.validation, block_size, args.per_device_eval_batch_size, signals.reason)
    if score is None:
        raise signals.stopped()
    return score.metrics()


def finish(
    recipe: Recipe, trainer: ClmTrainer, data: Prepared, trained: dict[str, float], unigram: float, say: Say
) -> None:
    """Evaluate the model that is kept, write it with its results, and say what came out and where it is."""
    output_dir, blocks = Path(trainer.args.output_dir), trainer.train_dataset
    model = trainer.whole_model()
    metrics = evaluate(model, data, blocks.block_size, trainer.args)
    trainer.export(model)
    if not processes.main_process():
        return
    results = outputs.write_results(trainer, trained, metrics)
    card.write(output_dir)
    samples = continue_prompts(model, data.tokenizer, recipe.run.prompts or DEFAULT_PROMPTS)
    say(summary.table(results, metrics, unigram, len(data.tokenizer), trainer.state))
    if compared := published.rows_of_run(recipe.resolved(), metrics, model.num_parameters()):
        say(f"\n{published.table(compared)}")
    say(summary.samples(samples))
    write_report(output_dir, explain.for_report(output_dir))
    say(summary.places(output_dir, data))


if __name__ == "__main__":
    sys.exit(main())
