"""Checkpoints: found, checked, written in the background, and unsharded."""
