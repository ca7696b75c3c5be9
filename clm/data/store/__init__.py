"""Documents to token ids on disk: written once, in parts, and read through memory maps."""
