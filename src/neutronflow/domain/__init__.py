"""The pure middle: no socket, file, broker or database; bytes or events in, values or instructions out."""
