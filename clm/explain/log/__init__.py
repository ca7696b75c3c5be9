"""A log from anywhere explained: what is known of its run, and what can be said with that."""
