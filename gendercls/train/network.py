"""Inception-v3 with a composed head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import inception_v3

from gendercls.train.parallel import WholeBatchDropout

FEATURES = 2048


class Network(nn.Module):
    """uint8 photos → logits, one per class.

    The backbone is torchvision's Inception-v3 (Szegedy et al. 2016) without its auxiliary classifier, which needs
    larger photos. Scaling to the range that the weights expect is part of the network, so no caller can miss it.
    """

    def __init__(self, classes: int, *, dropout: float, input_range: tuple[float, float], fresh: bool = False) -> None:
        super().__init__()
        self.backbone = inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=fresh)
        self.backbone.dropout = self.dropout = WholeBatchDropout(dropout)
        self.backbone.fc = nn.Identity()
        self.head = nn.Linear(FEATURES, classes)
        self.input_range = input_range

    def forward(self, images: Tensor) -> Tensor:
        """Logits: uint8 ``[N, H, W, 3]`` RGB → float ``[N, K]``."""
        logits: Tensor = self.head(self.embed(images))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """What the head sees of a photo: uint8 ``[N, H, W, 3]`` RGB → pooled features, float ``[N, 2048]``."""
        low, high = self.input_range
        scaled = images.permute(0, 3, 1, 2).float() * ((high - low) / 255) + low  # [N, 3, H, W]
        features: Tensor = self.backbone(scaled.contiguous(memory_format=torch.channels_last))
        return features


class CalibratedNetwork(nn.Module):
    """uint8 ``[N, H, W, 3]`` RGB → float ``[N, K]``: ``softmax(logits / T)``, or the sigmoid of independent ones."""

    def __init__(self, network: Network, temperature: float, *, independent: bool = False) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.independent = independent

    def forward(self, images: Tensor) -> Tensor:
        return self.with_embedding(images)[0]

    def with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities, and the features that the head saw, ``[N, D]``."""
        embedding = self.network.embed(images)
        logits = self.network.head(embedding) / self.temperature
        return torch.sigmoid(logits) if self.independent else torch.softmax(logits, dim=1), embedding
