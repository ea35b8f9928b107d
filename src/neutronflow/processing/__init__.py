"""Post-processing: agents, their steps, and the reductions that ship."""
