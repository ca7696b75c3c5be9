"""Text to training blocks: sources, documents, tokenizer, token store, blocks, order."""
