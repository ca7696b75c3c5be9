"""Many epochs over little text: what a stock GPT-2 should be trained with there. `python -m benchmarks.regime`."""
