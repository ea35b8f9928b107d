"""The run and step machine."""
