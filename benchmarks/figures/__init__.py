"""The figures, one module for each part of the engine; ``harness.py`` says how to add one."""
