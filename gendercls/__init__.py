"""gendercls: how a labeller would likely perceive each face in a folder of photos, with honest intervals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendercls.classify.classifier import Classifier, Prediction
    from gendercls.errors import GenderclsError
    from gendercls.spec import ModelSpec

# From 1.29 on onnxruntime tells its makers how it is used, and gives the machine a number, unless it finds this as it
# is loaded. What a user does with photos is nobody else's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Classifier", "GenderclsError", "ModelSpec", "Prediction", "__version__"]

_HOMES = {
    "Classifier": "gendercls.classify.classifier",
    "Prediction": "gendercls.classify.classifier",
    "GenderclsError": "gendercls.errors",
    "ModelSpec": "gendercls.spec",
}


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that ``gendercls --help`` loads none of what they need."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
