"""How many parameters a GPT-2 has, from the numbers of its config: the one count that everything goes by."""

from dataclasses import dataclass

from clm.config.recipe import Recipe


@dataclass(frozen=True)
class Parameters:
    """A model's parameters, and where they are. The tied head is the token table, so it counts once."""

    total: int
    embeddings: int  # token and position tables
    blocks: int
    matrices: int  # of those in the blocks, the two-dimensional weights

    @property
    def non_embedding(self) -> int:
        """All without the two tables, as scaling laws count them."""
        return self.total - self.embeddings


def count_parameters(
    *,
    n_layer: int,
    n_embd: int,
    block_size: int,
    vocab_size: int,
    n_inner: int | None = None,
    tie_word_embeddings: bool = True,
) -> Parameters:
    """The parameters of a GPT-2 of this shape.

    A block has four matrices: query, key and value (width x 3 width), attention's output (width x width), and the two
    of the MLP (width x inner, inner x width). Each has a bias. A LayerNorm has a weight and a bias; a block has two of
    them, and one follows the last block.

    Args:
        block_size: positions.
        n_inner: width of the MLP; by default four times `n_embd`.
        tie_word_embeddings: whether the head is the token table.
    """
    inner = n_inner or 4 * n_embd
    matrices = n_layer * (4 * n_embd**2 + 2 * n_embd * inner)
    biases = n_layer * (3 * n_embd + n_embd + inner + n_embd)
    norms = n_layer * 2 * 2 * n_embd
    blocks = matrices + biases + norms
    embeddings = (vocab_size + block_size) * n_embd
    head = 0 if tie_word_embeddings else vocab_size * n_embd
    return Parameters(embeddings + blocks + 2 * n_embd + head, embeddings, blocks, matrices)


def parameters_of(recipe: Recipe, vocab_size: int) -> Parameters:
    """The parameters of a recipe's model."""
    model = recipe.model
    return count_parameters(
        n_layer=model.n_layer,
        n_embd=model.n_embd,
        block_size=recipe.data.block_size,
        vocab_size=vocab_size,
        n_inner=model.n_inner,
        tie_word_embeddings=model.tie_word_embeddings,
    )
