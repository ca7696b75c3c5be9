"""Perplexities from sums, as a metric that `evaluate.load` takes from this folder."""
