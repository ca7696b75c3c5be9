"""The commands of `python -m clm`, a module each: its options, and the room that does the work."""
