"""How low a loss can be: what text can be compressed to, in nats a token."""

import math

from clm.explain.scaling import typical_bytes_per_token
from clm.explain.setup import Setup
from clm.runs.curve import Curve

# Bits per byte that English prose can't be compressed below: the lower bound of Shannon 1951, "Prediction and Entropy
# of Printed English", for 100 letters of context. Chinchilla 70B reaches 0.66 on enwik9 (Delétang et al. 2023, arXiv
# 2309.10668). Source code, markup and text that repeats itself go lower.
LEAST_BITS_PER_BYTE = 0.6
BYTE_IDS = 257  # the bytes and end-of-text: then a token is a byte
BY_HEART = 3.0  # epochs from which a model that is large for its text knows it by heart


def bytes_per_token(setup: Setup) -> float:
    """Of the training text; a guess by the vocabulary's size where it isn't measured."""
    if setup.text.bytes:
        return setup.text.bytes / setup.text.tokens
    return guessed_bytes_per_token(setup.vocab_size)


def guessed_bytes_per_token(vocab_size: int) -> float:
    """By the vocabulary's size alone; at least 1."""
    return 1.0 if vocab_size <= BYTE_IDS else max(1.0, typical_bytes_per_token(vocab_size))


def least_loss(setup: Setup) -> float:
    """Nats a token below which no model brings English prose: LEAST_BITS_PER_BYTE of this text's tokens."""
    return least_loss_of(bytes_per_token(setup))


def least_loss_of(bytes_per_token: float) -> float:
    """The same, of tokens of so many bytes."""
    return LEAST_BITS_PER_BYTE * math.log(2) * bytes_per_token


def floor_of(curve: Curve, least: float, epochs: float) -> float:
    """What no forecast of this curve leads below: `least`, of prose, or 0.

    A curve that is below it already is none of prose; a training loss goes below it where a text is learned by heart,
    over so many `epochs`.
    """
    losses = curve.losses if len(curve.losses) else curve.train_losses
    by_heart = not len(curve.losses) and epochs >= BY_HEART
    return 0.0 if by_heart or losses.min() <= least else least
