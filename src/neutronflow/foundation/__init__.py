"""What every service stands on, and what knows nothing of neutrons."""
