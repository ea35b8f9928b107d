"""What stands at a beamline."""
