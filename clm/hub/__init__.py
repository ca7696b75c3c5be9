"""To the Hub and back: pushing beside training, and going on from what was pushed."""
