"""Label files → `Labels`; class rules; splits; which label belongs to which photo.

`read_labels` knows CelebA's official and Kaggle's layout, FairFace's folder, any CSV with a path column, and one
folder per class.
"""

from __future__ import annotations

from gendercls.labels.readers import read_labels
from gendercls.labels.rules import ALL_ATTRIBUTES, DEFAULT_CLASSES, ClassRule, opinions_in, parse_classes
from gendercls.labels.table import Labels

__all__ = [
    "ALL_ATTRIBUTES",
    "DEFAULT_CLASSES",
    "ClassRule",
    "Labels",
    "opinions_in",
    "parse_classes",
    "read_labels",
]
