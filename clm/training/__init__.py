"""Blocks to weights: the Trainer, its optimizer and schedule, how fast it goes."""
