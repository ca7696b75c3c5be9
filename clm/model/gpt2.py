"""A fresh GPT-2 from a recipe, and the forward pass that trains it."""

from typing import Self

import torch
import transformers
from transformers import GenerationConfig, GPT2Config, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from clm.config.recipe import ModelOptions
from clm.data.blocks import IGNORED
from clm.model import attention, liger
from clm.model.distillation import Teachers
from clm.model.loss import summed_cross_entropy


class GPT2LMHeadModel(transformers.GPT2LMHeadModel):
    """GPT-2 whose loss takes aligned labels and never holds all logits.

    It keeps the stock class's name because that is what `save_pretrained` writes into config.json: what is saved is,
    weight for weight, the stock model, whose own forward shifts labels by itself.

    Attributes:
        liger: whether Liger Kernel computes the loss.
        teachers: whose predictions are mixed into the labels; None for the labels alone.
    """

    liger = False
    teachers: Teachers | None = None
    _mode: bool | None = None  # that all modules were put into last

    def train(self, mode: bool = True) -> Self:
        """As the stock one, which the Trainer calls for every micro-batch; nothing is done where nothing changes."""
        if mode != self._mode or mode != self.training:
            super().train(mode)
            self._mode = mode
        return self

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> CausalLMOutputWithCrossAttentions:
        """Without `labels` the stock forward; with them the training loss, in nats a token.

        Args:
            input_ids: (batch, block_size) int64.
            labels: (batch, block_size) int64, aligned: labels[i] is the token after input_ids[i]. IGNORED ones
                aren't counted.
            num_items_in_batch: labels in the whole optimizer step, over all micro-batches and processes; the loss is
                this batch's sum divided by it. By default the labels of this batch.
        """
        if labels is None:
            return super().forward(input_ids, **kwargs)
        hidden = self.transformer(input_ids, use_cache=False).last_hidden_state
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORED).sum()
        if self.teachers is not None:
            total = self.teachers.summed_cross_entropy(input_ids, hidden, self.lm_head.weight, labels)
        else:
            summed = liger.summed_cross_entropy if self.liger else summed_cross_entropy
            total = summed(hidden, self.lm_head.weight, labels)
        loss = total / num_items_in_batch
        return CausalLMOutputWithCrossAttentions(loss=loss)


def model_config(options: ModelOptions, block_size: int, vocab_size: int, end_of_text: int) -> GPT2Config:
    """The GPT2Config of a recipe: one position for every token of a block."""
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=block_size,
        n_ctx=block_size,  # GPT-2's old name for the same, which converters to GGUF still look for
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        use_cache=True,
        **vars(options),
    )


def generation_config(config: GPT2Config) -> GenerationConfig:
    """How a saved model continues a text where its user says nothing of it.

    `max_length` counts the prompt too, so that no prompt leads beyond the last position. Without it transformers'
    pipeline asks for 256 new tokens, whatever the context is; `max_new_tokens` would fit some prompts only.

    Tokens are drawn, because the likeliest ones soon repeat themselves (Holtzman et al. 2020, arXiv 1904.09751), and
    not from the whole distribution, whose long tail a small model gets wrong: from the 50 likeliest (Fan et al. 2018,
    arXiv 1805.04833), sharpened to a temperature of 0.8, as nanoGPT's sample.py does.

    End-of-text pads, here and in the tokenizer. The model's own config doesn't say so: the stock forward would then
    look for it in every batch without a mask, which makes a GPU wait, and warn of each text that starts with it.
    """
    return GenerationConfig(
        max_length=config.n_positions,
        do_sample=True,
        temperature=0.8,
        top_k=50,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.eos_token_id,
    )


def fresh_model(options: ModelOptions, block_size: int, tokenizer: PreTrainedTokenizerBase) -> GPT2LMHeadModel:
    """A model with new random weights, drawn from torch's global generator, in fp32."""
    return from_config(model_config(options, block_size, len(tokenizer), tokenizer.eos_token_id))


def from_config(config: GPT2Config) -> GPT2LMHeadModel:
    """A model of this shape, ready to be trained fast."""
    model = GPT2LMHeadModel._from_config(config, attn_implementation=attention.NAME)
    model.generation_config = generation_config(config)
    take_fused_gelu(model)
    return model


def take_fused_gelu(model: transformers.GPT2LMHeadModel) -> None:
    """Let `gelu_new` be the same function in one step, which keeps one tensor, not eight."""
    if model.config.activation_function == "gelu_new":
        for block in model.transformer.h:
            block.mlp.act = torch.nn.GELU(approximate="tanh")
