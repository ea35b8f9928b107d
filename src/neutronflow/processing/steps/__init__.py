"""What an agent does with a run: cataloging raw data, reducing, cataloging reduced data."""
