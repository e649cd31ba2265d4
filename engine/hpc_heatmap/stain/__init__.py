"""Stain normalization: what a slide's stains look like, made to look like a target's.

``colour`` converts colours, ``matrices`` estimates stains, ``fits`` holds what was estimated,
``transfer`` changes pixels, ``target`` reads what to change them to. docs/stain.md tells the user.
"""
