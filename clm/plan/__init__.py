"""`python -m clm plan`: what a recipe will need, before it runs."""
