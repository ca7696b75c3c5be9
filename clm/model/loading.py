"""A model and its tokenizer from a folder or the Hub: safetensors only, no code from there, and fit to be used."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from clm.data.sources.downloads import why_unreachable
from clm.errors import UserError


def load_model(
    path_or_repo: str, key: str = "--model", cache_dir: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in fp32, on the CPU, and its own tokenizer.

    Args:
        path_or_repo: a folder, or a name on the Hub.
        key: what the user named it by, for messages.
        cache_dir: for downloads; by default where the Hub's client has them.

    Raises:
        UserError: there is none that loads whole.
    """
    unreachable, folder = "", Path(path_or_repo)
    if (folder / "recipe.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(
            f"{path_or_repo}: this run has no model yet: it writes one when it ends; until then name one of its "
            f"checkpoints, as {folder / 'checkpoint-N'}"
        )
    if not Path(path_or_repo).is_dir():
        if path_or_repo.startswith(("/", ".", "~")):
            raise UserError(f"{path_or_repo}: there is no such folder")
        unreachable = why_unreachable(path_or_repo, key)
    options = {"trust_remote_code": False, "cache_dir": cache_dir, "local_files_only": bool(unreachable)}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path_or_repo, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(path_or_repo, **options)
    except MemoryError:
        raise
    except Exception as error:  # the packages raise all kinds for a damaged file, tokenizers Exception itself
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if unreachable:
            reason = f"the Hub can't be reached: {unreachable}; give a folder"
        raise UserError(f"{path_or_repo}: no causal language model could be loaded from there ({reason})") from None
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{path_or_repo}: its file lacks weights of {type(model).__name__} ({', '.join(missing[:3])}"
            f"{' …' * (len(missing) > 3)}), so it isn't a whole causal language model"
        )
    return model.eval(), tokenizer


def check_weights(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Stop where scores would mean nothing.

    Raises:
        UserError: a weight that isn't finite, or ids of the tokenizer that the model doesn't have.
    """
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(f"{name}: the weights in {key} aren't all finite; train or save the model again")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(f"{name}: its tokenizer has {len(tokenizer):,} ids, but the model only {rows:,}")


def first_token(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[int, str]:
    """The token that every document starts from: beginning-of-text where there is one, else end-of-text.

    For GPT-2 both are `<|endoftext|>`. Without either, a document's first token could not be scored.

    Raises:
        UserError: the tokenizer has neither.
    """
    for token in (tokenizer.bos_token, tokenizer.eos_token):
        if token is not None:
            return tokenizer.convert_tokens_to_ids(token), token
    raise UserError(
        f"{name}: its tokenizer has neither bos_token nor eos_token, so nothing says what a document starts from and "
        "its first token can't be scored; set eos_token in its tokenizer_config.json"
    )
