"""Jobs: config, journal, lock, run loop, resume."""
