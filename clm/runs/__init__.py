"""A run's folder: the reader of it, and what a run writes into it."""
