"""What is wrong, if a loss or a curve shows it."""
