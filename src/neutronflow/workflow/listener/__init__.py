"""The DASMON listener: what services and agents tell of themselves and of their jobs, stored for the pages."""
