"""A pre-training recipe for GPT-2-style language models on the Hugging Face stack."""
