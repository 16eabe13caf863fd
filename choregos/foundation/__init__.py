"""What every other package may use: clock, ids, errors, back-off, tasks, settings. Knows nothing of agents."""
