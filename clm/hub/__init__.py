"""To the Hub and back: background upload while a run trains, and resuming from what was pushed."""
