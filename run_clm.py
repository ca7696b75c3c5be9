"""Recipe in, trained model out: `accelerate launch run_clm.py --config recipes/quickstart.json [--key value ...]`.

Type the same command again to resume from the newest checkpoint. `--dry_run` says what would run and stops.
"""

import sys

from clm.launch import signals
from clm.progress import Say

if __name__ == "__main__":
    signals.end_at_once()  # while there is nothing to save: the imports alone take seconds

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from transformers import TrainingArguments

from clm.config.command_line import parse
from clm.config.recipe import Recipe
from clm.errors import exit_code_of
from clm.evaluation import published
from clm.evaluation.validation import evaluate
from clm.explain import explain
from clm.explain.explanation import verdict_kept, write_explanation
from clm.explain.setup import of_statistics
from clm.explain.training_text import text_in_figures
from clm.hub.background import check, uploads
from clm.hub.fetch import fetch
from clm.launch import acceleration, faults, processes, run_lock, status
from clm.launch.start import start
from clm.model.generation import DEFAULT_PROMPTS, continue_prompts
from clm.plan import page, plan
from clm.report import card
from clm.report.report import write_report
from clm.runs import outputs, summary
from clm.training import resume
from clm.training.build import make_trainer
from clm.training.checkpoint.identity import sequences_per_step
from clm.training.text import RunText, prepare_text
from clm.training.trainer import ClmTrainer


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe; the exit code is that of `exit_code_of`."""
    return exit_code_of(lambda: run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> None:
    """Parse, prepare, train, evaluate, report, push: every step's result is on disk before the next one needs it."""
    with signals.caught(), processes.processes(), faults.machine_faults():
        recipe = parse(argv)
        if recipe.flags.dry_run:
            print(page.plan_page(plan.make(recipe)))
            return
        if recipe.run.stop_after_minutes:
            signals.stop_after(recipe.run.stop_after_minutes)
        output_dir = Path(recipe.training["output_dir"])
        args, say = start(recipe)
        processes.on_main(lambda: check(recipe.training))
        with run_lock.held(output_dir, say):
            train(recipe, args, output_dir, say)


def train(recipe: Recipe, args: TrainingArguments, output_dir: Path, say: Say) -> None:
    """The run, in an output_dir that is its own."""
    request, needs_best = recipe.run.resume_from_checkpoint, bool(args.load_best_model_at_end)
    if request == "hub":
        processes.on_main(lambda: fetch(output_dir, recipe.training, needs_best, say), patient=True)
    earlier = resume.look(output_dir, request, needs_best, say)
    text = prepare_text(recipe, args, earlier.folders, say)
    if earlier.is_all(text.total_steps, args.world_size, say):
        return
    figures = text_in_figures(text.data)
    setup = of_statistics(recipe, figures, sequences_per_step(args))
    say("\n".join(acceleration.choose(args, recipe)))
    with uploads(output_dir, recipe.training, say) as saved:
        verdict = partial(verdict_kept, output_dir, setup)
        scored = partial(evaluate, text=text, args=args)
        trainer = make_trainer(recipe, args, text, scored, verdict, earlier.checkpoint, saved)
        with status.status_of(output_dir, text.total_steps), faults.machine_faults():
            if processes.main_process():
                outputs.write_start(recipe, text.identity, figures, args)
            with signals.deferred():
                result = trainer.train(resume_from_checkpoint=str(earlier.checkpoint) if earlier.checkpoint else None)
            finish(recipe, trainer, text, result.metrics, figures["unigram_loss"], say)
            say(explain.verdict_line(setup, trainer.state.log_history) or "verdict: can't say, nothing was evaluated")


def finish(
    recipe: Recipe, trainer: ClmTrainer, text: RunText, trained: dict[str, float], unigram: float, say: Say
) -> None:
    """Evaluate the model that is kept, write it with its results, and say what came out and where it is."""
    output_dir, tokenizer = Path(trainer.args.output_dir), text.data.tokenizer
    model = trainer.full_model()
    metrics = evaluate(model, text, trainer.args)
    trainer.export(model)
    if not processes.main_process():
        return
    results = outputs.write_results(trainer, trained, metrics)
    explanation = write_explanation(output_dir)
    card.write(output_dir)
    say(summary.table(results, metrics, unigram, len(tokenizer), trainer.state))
    if compared := published.rows_of_run(recipe.resolved(), metrics, model.num_parameters()):
        say(f"\n{published.table(compared)}")
    say(summary.samples(continue_prompts(model, tokenizer, recipe.run.prompts or DEFAULT_PROMPTS)))
    write_report(output_dir, explanation)
    say(summary.places(output_dir, text.data))


if __name__ == "__main__":
    sys.exit(main())
