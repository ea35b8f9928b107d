"""Translation: the event stream of a run becomes a NeXus file while it arrives."""
