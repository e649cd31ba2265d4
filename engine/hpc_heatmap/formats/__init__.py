"""What is on disk: one module a format, each with its writer and its reader."""
