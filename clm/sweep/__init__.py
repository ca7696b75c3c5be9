"""Searches over recipes with small models, and what their values become in a large one."""
