"""Training blocks to weights: model, optimizer, hardware, trainer, checkpoints."""
