"""What a recipe's teachers add to its plan."""

from pathlib import Path

from clm.config.recipe import Recipe
from clm.files import read_json
from clm.model.flops import flops_per_token
from clm.model.size import count_parameters


def forward_flops(recipe: Recipe) -> tuple[float, dict[str, str]]:
    """FLOPs of all teachers' forward passes over one token, and the plan's notes on them.

    Only a teacher in a folder is known before the run; the Hub isn't asked, and a note says which are left out.
    """
    named = recipe.run.teachers or []
    names = [named] if isinstance(named, str) else named
    flops, parameters, unknown = 0.0, 0, []
    for name in names:
        config = read_json(Path(name) / "config.json") or {}
        if config.get("model_type") != "gpt2":
            unknown.append(name)
            continue
        shape = {key: config[key] for key in ("n_layer", "n_embd", "vocab_size", "n_inner", "tie_word_embeddings")}
        total = count_parameters(**shape, block_size=config["n_positions"]).total
        in_matmuls = total - config["n_positions"] * config["n_embd"]
        # A third of forward and backward.
        flops += flops_per_token(in_matmuls, config["n_layer"], config["n_embd"], recipe.data.block_size) / 3
        parameters += total
    notes = {}
    if parameters:
        weights = f"{parameters * 4 / 1e9:.2f} GB a device"
        notes["teachers"] = f"their forward passes are counted; their weights, {weights}, aren't in memory"
    if unknown:
        notes["teachers left out"] = f"{', '.join(unknown)}: no folder of that name has a GPT-2"
    return flops, notes
