"""Linear probes at every layer: trained on one data type, tested on another, with controls.

A probe shows that something can be decoded linearly from a state. It does not show that the model uses it.
"""

from semhub_lens.linear_probes.attached import ClassResult, LinearClassifier, LinearProbe, train_probe
from semhub_lens.linear_probes.fitting import ProbeSetup
from semhub_lens.linear_probes.predictions import Peak, Predictions
from semhub_lens.linear_probes.probe import ProbeResult, linear_probe
from semhub_lens.linear_probes.transfer import TransferResult, transfer_matrix

__all__ = [
    "ClassResult",
    "LinearClassifier",
    "LinearProbe",
    "Peak",
    "Predictions",
    "ProbeResult",
    "ProbeSetup",
    "TransferResult",
    "linear_probe",
    "train_probe",
    "transfer_matrix",
]
