"""The model: a fresh GPT-2, its attention and loss, its arithmetic, and text from it."""
