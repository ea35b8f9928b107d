"""What services say to each other: structs and destinations. The wire contract in code."""
