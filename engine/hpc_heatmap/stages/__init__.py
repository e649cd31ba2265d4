"""What is done to a slide, one module a stage: grouping, scoring, stitching.

Stages read and write files; they never call each other.
"""
