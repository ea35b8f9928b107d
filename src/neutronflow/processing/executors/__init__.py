"""Where jobs run: on this machine, watched by a guard process of their own."""
