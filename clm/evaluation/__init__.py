"""Weights to numbers: scoring, samples and the `evaluate` metric."""
