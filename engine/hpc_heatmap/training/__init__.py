"""Training of a patch classifier: the paper's recipe, for a small lab.

``settings`` and ``sources`` say what can be chosen. Patches come from folders and tar files
(``patch_files``) or are cut from slides (``slides``, by ``coverage`` with tissue and tumour);
``patches`` holds them, ``gathering`` puts them together. ``augmentation`` varies them,
``networks`` are what is trained, ``trainer`` trains. ``folder`` owns every path and the
checkpoint; ``curves``, ``export`` and ``card`` write what is found. ``training`` is the whole.
docs/training.md says how to use it.
"""
