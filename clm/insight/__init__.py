"""Numbers to understanding: what a recipe will need and what a loss means."""
