"""Checkpoints: found, proven whole, written beside training, and unsharded."""
