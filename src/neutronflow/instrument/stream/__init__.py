"""The stream service: sources in; pulses assembled, spooled, and given to live clients and to the translator."""
