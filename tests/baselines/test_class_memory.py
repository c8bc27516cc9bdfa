"""Pixel-wise contrast: what counts as a class, what the memory keeps, and what the loss is made of."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from development.baselines.class_memory import ClassMemory, ContrastedLoss, PixelContrast
from development.baselines.pixel_contrast import PixelContrastedSegmenter
from scripts.losses.partial_labels import QueryLoss
from scripts.losses.supcon import SupConLoss
from scripts.networks.decoder import DeepLabDecoder
from scripts.networks.encoder import ResNetEncoder
from scripts.networks.segmenter import QuerySegmenter


def test_the_memory_keeps_the_last_embeddings_of_each_class() -> None:
    memory = ClassMemory(classes=3, size=2, dim=1)
    assert len(memory.kept()[0]) == 0
    memory.add(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 1, 2]))
    memory.add(torch.tensor([[4.0]]), torch.tensor([1]))
    entries, classes = memory.kept()
    assert sorted(zip(classes.tolist(), entries[:, 0].tolist(), strict=True)) == [(1, 2.0), (1, 4.0), (2, 3.0)]


def test_more_embeddings_than_the_memory_holds_replace_all_of_it_by_the_last() -> None:
    memory = ClassMemory(classes=1, size=2, dim=1)
    memory.add(torch.arange(5.0)[:, None], torch.zeros(5, dtype=torch.int64))
    assert sorted(memory.kept()[0][:, 0].tolist()) == [3.0, 4.0]


def test_the_memory_is_part_of_a_checkpoint_and_no_parameter() -> None:
    memory, other = ClassMemory(2, 4, 3), ClassMemory(2, 4, 3)
    memory.add(torch.ones(1, 3), torch.tensor([1]))
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.kept()[0], torch.ones(1, 3)) and not list(memory.parameters())


def test_a_pixel_has_the_class_of_its_query_where_most_of_it_is_the_organ() -> None:
    # Two queries of 2 x 2 labels and 1 x 2 embeddings: organ 5 fills the left column, organ 3 nothing.
    label = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    embeddings = torch.nn.functional.normalize(torch.randn(2, 4, 1, 2, generator=torch.Generator().manual_seed(0)))
    memory = ClassMemory(6, 8, 4)
    cost = PixelContrast(memory, 0.5)(embeddings, {"label": label, "organ": torch.tensor([5, 3])})
    pixels = embeddings.permute(0, 2, 3, 1).reshape(4, 4)
    assert float(cost) == pytest.approx(float(SupConLoss(0.5)(pixels, torch.tensor([5, 0, 0, 0]))), abs=1e-6)
    assert sorted(memory.kept()[1].tolist()) == [0, 0, 0, 5]


def test_pixels_are_contrasted_with_those_of_earlier_batches() -> None:
    memory = ClassMemory(2, 8, 2)
    memory.add(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0]))
    embeddings = torch.tensor([[1.0, 0.0]]).reshape(1, 2, 1, 1).requires_grad_()
    loss = PixelContrast(memory, 1.0)
    cost = loss(embeddings, {"label": torch.ones(1, 1, 1, 1), "organ": torch.tensor([1])})
    # The pixel and the entry of its class: log(e + 1) - 1 each; the entry of class 0 has no positive.
    assert float(cost) == pytest.approx(float(torch.log(torch.e + torch.ones(()))) - 1, abs=1e-6)
    cost.backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None and bool(embeddings.grad.abs().sum() > 0)
    assert not list(loss.parameters()) and "entries" not in loss.state_dict()


def test_at_most_the_given_number_of_pixels_is_drawn_from_each_class_evenly() -> None:
    loss = PixelContrast(ClassMemory(1, 1, 1), pixels=3)
    assert loss._draw(torch.tensor([True] * 9)).tolist() == [0, 4, 8]
    assert loss._draw(torch.tensor([False, True, False, True])).tolist() == [1, 3]


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_an_empty_memory_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="give at least 1 of each"):
        ClassMemory(*sizes)


def test_the_loss_is_the_weighted_sum_and_at_weight_0_the_segmentation_loss() -> None:
    segmentation = QueryLoss(DiceCELoss(sigmoid=True, batch=True))
    logits = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    embeddings = torch.nn.functional.normalize(torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1)))
    targets = {"label": (logits > 0.3).float(), "organ": torch.tensor([1, 1, 2, 2])}
    parts = segmentation(logits, targets), PixelContrast(ClassMemory(3, 4, 3))(embeddings, targets)
    for weight in (0.0, 0.5):
        loss = ContrastedLoss(segmentation, PixelContrast(ClassMemory(3, 4, 3)), weight)
        torch.testing.assert_close(loss((logits, embeddings), targets), parts[0] + weight * parts[1])
    with pytest.raises(ValueError, match="is negative"):
        ContrastedLoss(segmentation, PixelContrast(ClassMemory(3, 4, 3)), -1.0)


def test_logits_are_those_of_the_segmenter_and_embeddings_are_unit_vectors() -> None:
    torch.manual_seed(0)
    encoder = ResNetEncoder("resnet18")
    segmenter = QuerySegmenter(encoder, DeepLabDecoder(encoder.channels, width=16), attention_residual=True)
    network = PixelContrastedSegmenter(segmenter, classes=3, dim=8, memory=4).eval()
    queries = torch.rand(2, 2, 32, 32)
    logits, embeddings = network(queries)
    torch.testing.assert_close(logits, segmenter(queries))
    assert embeddings.shape == (2, 8, 16, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, 16, 16))
    learned = {id(parameter) for parameter in network.trainable_parameters()}
    assert learned == {id(parameter) for parameter in network.parameters()}


def test_pixels_whose_truth_is_unknown_make_no_organ() -> None:
    label = torch.zeros(1, 1, 8, 8)
    label[..., ::4] = 255
    memory = ClassMemory(3, 4, 3)
    embeddings = torch.nn.functional.normalize(torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)))
    PixelContrast(memory)(embeddings, {"label": label, "organ": torch.tensor([2])})
    assert memory.kept()[1].unique().tolist() == [0]
