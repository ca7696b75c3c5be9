"""Let a model continue a text."""

from collections.abc import Sequence

from clm.commands.arguments import CommandParser, count, seed
from clm.errors import UserError


def run(words: Sequence[str]) -> None:
    """Print how the model goes on after each prompt."""
    parser = CommandParser("generate", __doc__)
    parser.add_argument("--model", required=True, help="a run's folder, or a name on the Hub")
    parser.add_argument("--prompt", required=True, action="append", help="may be given several times")
    parser.add_argument("--max_new_tokens", type=count, default=60)
    parser.add_argument("--seed", type=seed, default=0, help="of what is sampled")
    args = parser.parse(words)
    # These take seconds to import, so not before the command line is right.
    from transformers.utils.logging import disable_progress_bar

    from clm.model.generation import continue_prompts
    from clm.model.loading import check_weights, load_model

    disable_progress_bar()
    model, tokenizer = load_model(args.model)
    check_weights(model, tokenizer, args.model)
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{args.model}: its tokenizer has no eos_token, from which a text starts; set it in tokenizer_config.json"
        )
    for sample in continue_prompts(model, tokenizer, args.prompt, args.max_new_tokens, args.seed):
        print(f"[{sample.mode}] {sample.prompt}{sample.text}")
