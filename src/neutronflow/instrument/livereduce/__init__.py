"""Live reduction: a picture of the run that is being taken, from the live stream."""
