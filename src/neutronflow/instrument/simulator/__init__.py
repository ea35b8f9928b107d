"""A powder diffractometer that is not there: its detectors, its slow controls, and somebody who takes runs with it."""
