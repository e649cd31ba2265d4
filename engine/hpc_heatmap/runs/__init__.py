"""Runs: planned, driven by a master, looked at, resumed. Their state is in their files alone."""
