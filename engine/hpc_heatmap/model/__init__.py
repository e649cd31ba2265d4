"""Models: a network from a file or a Python function, with the descriptor that says how to feed it.

Files that are loaded: TorchScript (``.pt``), torch.export (``.pt2``) and ONNX (``.onnx``).
Files that execute pickled code when they are loaded are never opened.
"""

from hpc_heatmap.model.checking import (
    check_classifier,
    check_model,
    choose_memory_format,
    known_check,
)
from hpc_heatmap.model.choosing import Trial, choose_execution, known_execution
from hpc_heatmap.model.classifier import Classifier, FunctionClassifier, NetworkClassifier
from hpc_heatmap.model.descriptor import Descriptor, find_descriptor, read_descriptor
from hpc_heatmap.model.loading import (
    load_classifier,
    program_copy,
    traced_copy,
)

__all__ = [
    "Classifier",
    "Descriptor",
    "FunctionClassifier",
    "NetworkClassifier",
    "Trial",
    "check_classifier",
    "check_model",
    "choose_execution",
    "choose_memory_format",
    "find_descriptor",
    "known_check",
    "known_execution",
    "load_classifier",
    "program_copy",
    "read_descriptor",
    "traced_copy",
]
