"""Models: a network from a file or a Python function, with the descriptor that says how to feed it.

Files that are loaded: TorchScript (``.pt``), torch.export (``.pt2``) and ONNX (``.onnx``).
Files that execute pickled code when they are loaded are never opened.
"""

from hpc_heatmap.model.classifier import Classifier, FunctionClassifier, NetworkClassifier
from hpc_heatmap.model.descriptor import Descriptor, find_descriptor, read_descriptor
from hpc_heatmap.model.loading import (
    check_classifier,
    choose_memory_format,
    load_classifier,
    traced_copy,
)

__all__ = [
    "Classifier",
    "Descriptor",
    "FunctionClassifier",
    "NetworkClassifier",
    "check_classifier",
    "choose_memory_format",
    "find_descriptor",
    "load_classifier",
    "read_descriptor",
    "traced_copy",
]
