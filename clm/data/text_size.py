"""How many tokens a recipe's training text has: counted, known, or estimated. Downloads and builds nothing."""

from clm.config.recipe import DataOptions, Recipe
from clm.data.prepare import existing_store, open_text, store_of_dataset
from clm.data.sources.splits import DEFAULT_PERCENTAGE
from clm.data.store.token_store import TokenStore
from clm.errors import UserError

# Tokens of well-known training splits: (dataset, configuration, vocabulary) -> (tokens, where the count is from).
KNOWN_TOKENS = {
    ("Salesforce/wikitext", "wikitext-103-raw-v1", 32_000): (
        116_944_985,
        "known of a 32,000-id byte-level BPE trained on that split; another one differs by some tenths of a percent",
    ),
}
PYTHON_DOCS_BYTES = 2_510_553  # of Python 3.11.7, Debian's 3.11.2 has 2,219,209; to parse its modules takes seconds
PYTHON_DOCS_PER_TOKEN = {2048: 2.99}  # bytes a token, by vocabulary
BYTES_PER_TOKEN = 4.2  # English under a BPE of tens of thousands of ids: an assumption, said where it is used


def find_store(recipe: Recipe, vocab_size: int) -> TokenStore | None:
    """The store of the recipe's training text, if an earlier run has built it; downloads nothing."""
    data = recipe.data
    if data.dataset_name not in (None, "python-docs"):
        return store_of_dataset(data, vocab_size)
    return existing_store(data, open_text(data, recipe.training["seed"]).train)


def tokens_of_text(recipe: Recipe, vocab_size: int) -> tuple[int, str]:
    """Tokens of the training text, and where that number is from: a store, a known dataset, or an estimate.

    Raises:
        UserError: nothing tells.
    """
    data, store = recipe.data, find_store(recipe, vocab_size)
    if store is not None:
        return store.tokens, f"the token store at {store.folder}"
    if data.dataset_name == "python-docs":
        return _of_python_docs(data, vocab_size)
    if data.dataset_name is not None:
        known = KNOWN_TOKENS.get((data.dataset_name, data.dataset_config_name, vocab_size))
        if known is None:
            raise UserError(f"{recipe.path}: how long {data.dataset_name} is isn't known; say it: --dataset_tokens N")
        return known
    train = open_text(data, recipe.training["seed"]).train
    size = train.size_bytes or sum(len(text.encode()) for batch in train.documents() for text in batch.texts)
    return int(size / BYTES_PER_TOKEN), f"estimate: {size:,} bytes at {BYTES_PER_TOKEN} bytes a token (assumed)"


def _of_python_docs(data: DataOptions, vocab_size: int) -> tuple[int, str]:
    held_out = 0.0 if data.validation_file else data.validation_split_percentage or DEFAULT_PERCENTAGE
    size, per_token = PYTHON_DOCS_BYTES * (1 - held_out / 100), PYTHON_DOCS_PER_TOKEN.get(vocab_size)
    found = f"{per_token} bytes a token (measured)" if per_token else f"{BYTES_PER_TOKEN} bytes a token (assumed)"
    why = f"estimate: {size:,.0f} bytes of Python 3.11's documentation, others have a tenth less or more, at {found}"
    return int(size / (per_token or BYTES_PER_TOKEN)), why
