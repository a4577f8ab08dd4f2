from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.train.toy import SIZE_PX, toy_model
from train.objective import CrossEntropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_torch(smoothing: float) -> None:
    model = toy_model()
    images = torch.randint(0, 256, (4, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 0])
    output = CrossEntropy(smoothing)(model, images, labels)
    expected = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
    assert output.loss.item() == expected.item()
    assert set(output.terms) == {"ce"}
    assert not output.terms["ce"].requires_grad
    assert output.logits.shape == (4, 3)
