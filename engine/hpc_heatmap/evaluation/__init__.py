"""How good the lesions and the slide scores are, against the truth: FROC and AUC.

``detections``, ``score_table`` and ``truth`` (``masks``, ``outlines``, ``raster``) read what is
compared; ``lesions`` turns a mask into lesions by the rules of CAMELYON16; ``froc`` and ``auc``
make the numbers, ``bootstrap`` the intervals of a FROC, ``pictures`` the curves;
``slide_features`` and ``slide_forest`` score slides by their heatmaps.
docs/evaluation.md says what the numbers mean.
"""
