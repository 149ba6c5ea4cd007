"""One module for each application; what it serves is in its decorators."""
