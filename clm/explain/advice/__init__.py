"""What would lower a loss: changes, ranked by the gain that the references let expect."""
