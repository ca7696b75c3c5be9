"""Anyone's training log, in the shape that its program wrote: the readers, and what makes one curve of a log."""
