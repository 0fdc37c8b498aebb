"""Real Python programs of the running standard library, and programs with their instructions."""
