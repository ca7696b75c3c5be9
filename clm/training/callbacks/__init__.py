"""What watches a run while it trains, one concern a file."""
