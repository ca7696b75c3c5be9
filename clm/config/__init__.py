"""The recipe: its fields, their types and ranges, and what can't go together."""
