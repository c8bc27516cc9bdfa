"""Losses of the segmentation stages: organs count alike, unknown pixels and organs without contour not at all."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor
from torch.nn import BCEWithLogitsLoss, Module

from scripts.losses.partial_labels import (
    OrganWeightDecay,
    PartialDiceCELoss,
    QueryLoss,
    certain_background,
    merge_unannotated,
)
from scripts.preprocessing.organ_labels import IGNORED


def queries(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels [3, 1, 6, 8]; the right half is unknown."""
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(3, 1, 6, 8, generator=generator) > 0.5).float()
    label[..., 4:] = IGNORED
    return torch.randn(3, 1, 6, 8, generator=generator), label


def loss_of(loss: Module, logits: Tensor, label: Tensor, organs: tuple[int, ...] = (2, 2, 2)) -> Tensor:
    result: Tensor = QueryLoss(loss)(logits, {"label": label, "organ": torch.tensor(organs)})
    return result


def test_it_is_the_mean_of_the_losses_of_each_organs_queries() -> None:
    logits, label = (half[..., :4] for half in queries())
    loss = DiceCELoss(sigmoid=True, batch=True)
    organ_5 = loss(logits[[0, 2]], label[[0, 2]])
    organ_3 = loss(logits[[1]], label[[1]])
    assert torch.isclose(loss_of(loss, logits, label, (5, 3, 5)), (organ_5 + organ_3) / 2)


def test_an_organ_of_few_pixels_counts_as_much_as_one_of_many() -> None:
    """A large organ found, a small one missed: 1/2 is lost organ by organ, and next to nothing over all pixels."""
    label = torch.zeros(2, 1, 10, 10)
    label[0, :, :9], label[1, :, 0, 0] = 1, 1
    logits = torch.full_like(label, -20.0)
    logits[0, :, :9] = 20.0
    loss = DiceLoss(sigmoid=True, batch=True)
    assert torch.isclose(loss_of(loss, logits, label, (1, 2)), torch.tensor(0.5), atol=1e-3)
    assert float(loss(logits, label)) < 0.01


def test_of_a_single_organ_it_is_the_loss_itself() -> None:
    logits, label = (half[..., :4] for half in queries())
    loss = DiceCELoss(sigmoid=True, batch=True)
    assert torch.equal(loss_of(loss, logits, label), loss(logits, label))


def test_the_dice_is_that_of_the_known_half() -> None:
    logits, label = queries()
    loss = DiceLoss(sigmoid=True, batch=True)
    assert torch.isclose(loss_of(loss, logits, label), loss(logits[..., :4], label[..., :4]))


def test_the_cross_entropy_sums_over_the_known_half() -> None:
    logits, label = queries()
    summed = BCEWithLogitsLoss(reduction="sum")
    assert torch.isclose(loss_of(summed, logits, label), summed(logits[..., :4], label[..., :4]))


def test_unknown_pixels_get_no_gradient_and_the_others_do() -> None:
    logits, label = queries()
    logits.requires_grad_()
    loss_of(DiceCELoss(sigmoid=True, batch=True), logits, label, (1, 2, 1)).backward()
    assert logits.grad is not None
    assert not bool(logits.grad[..., 4:].any()) and bool((logits.grad[..., :4] != 0).all())


def test_the_example_of_the_docstring() -> None:
    logits = torch.tensor([0.2, 3.0, 1.0]).reshape(1, 3, 1, 1)
    certain, label = certain_background(logits, torch.full((1, 1, 1, 1), IGNORED))
    assert label.tolist() == [[[[0]]]]
    assert certain.flatten().tolist() == [0.0, -1e4, -1e4]
    assert certain.softmax(dim=1).flatten().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("contoured", [[True, True], [True, False]])
def test_the_multi_class_loss_gives_unknown_pixels_no_gradient(contoured: list[bool]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 6, 8, generator=generator).requires_grad_()
    label = torch.randint(3, (2, 1, 6, 8), generator=generator, dtype=torch.uint8)
    label[..., 4:] = IGNORED
    annotated = torch.tensor([[False, *contoured]] * 2)
    loss = PartialDiceCELoss(2, organ_weight=3.0)(logits, {"label": label, "annotated": annotated})
    loss.backward()
    assert bool(loss.isfinite()) and logits.grad is not None
    assert not bool(logits.grad[..., 4:].any()) and bool(logits.grad[..., :4].any())


def test_what_is_predicted_at_unknown_pixels_does_not_matter_to_the_multi_class_loss() -> None:
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., 0], label[..., 3] = 1, IGNORED
    targets = {"label": label, "annotated": torch.tensor([[False, True]])}
    first, second = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    second[:, 1, :, 3] = 50.0
    loss = PartialDiceCELoss(1)
    assert torch.equal(loss(first, targets), loss(second, targets))


def weights_of_a_stage(
    start: float, epochs: int, epoch_length: int, first_epoch: int = 0, of_epochs: int | None = None
) -> list[float]:
    loss, seen = PartialDiceCELoss(2, organ_weight=start), []
    trainer = Engine(lambda *_: seen.append(float(loss.weight[1])))
    OrganWeightDecay(loss, of_epochs).attach(trainer)

    @trainer.on(Events.STARTED)
    def resume() -> None:
        trainer.state.epoch, trainer.state.iteration = first_epoch, first_epoch * epoch_length

    trainer.run(range(epoch_length), max_epochs=epochs, epoch_length=epoch_length)
    return seen


def test_it_halves_in_equal_steps_and_ends_near_one() -> None:
    # 16 = 2^4 over four iterations: one halving each.
    assert weights_of_a_stage(16.0, epochs=2, epoch_length=2) == pytest.approx([16, 8, 4, 2])
    first, second = (weights_of_a_stage(16.0, n, epoch_length=2, first_epoch=n - 1, of_epochs=2) for n in (1, 2))
    assert first + second == pytest.approx([16, 8, 4, 2])  # rounds of federated learning


def test_a_resumed_stage_goes_on_with_the_weight_it_stopped_at() -> None:
    assert weights_of_a_stage(20.0, 4, 3, first_epoch=2) == weights_of_a_stage(20.0, 4, 3)[6:]


def test_a_weight_of_one_stays() -> None:
    assert weights_of_a_stage(1.0, 2, 2) == [1, 1, 1, 1]


def test_background_keeps_its_weight_and_dice_follows() -> None:
    loss = PartialDiceCELoss(2, organ_weight=9.0, lambda_ce=0.0)
    batch = {"label": torch.tensor([[[0, 1, 2]]]), "annotated": torch.ones(1, 3, dtype=torch.bool)}
    logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]])
    dice = loss(logits, batch)
    loss.weigh_organs(3.0)
    assert loss.weight.tolist() == [1, 3, 3]
    assert loss(logits, batch).item() == pytest.approx(dice.item() / 3)


ALL = torch.tensor([[True, True, True]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(logits: Tensor, *annotated: bool) -> list[float]:
    merged = merge_unannotated(logits[None, :, None], torch.tensor([annotated]))
    return [round(value, 6) for value in merged.softmax(dim=1).flatten().tolist()]


def partial_loss(logits: Tensor, label: Tensor, annotated: Tensor) -> Tensor:
    loss: Tensor = PartialDiceCELoss(organs=2)(logits, {"label": label, "annotated": annotated})
    return loss


def test_the_probability_of_an_organ_that_was_not_contoured_goes_to_the_background() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert probabilities(logits, True, True, False) == [0.7, 0.3, 0.0]
    assert probabilities(logits, True, False, True) == [0.8, 0.0, 0.2]
    assert probabilities(logits, True, False, False) == [1.0, 0.0, 0.0]
    assert probabilities(logits, True, True, True) == [0.5, 0.3, 0.2]


def test_the_background_column_does_not_matter() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    assert probabilities(logits, False, True, False) == probabilities(logits, True, True, False)


@given(st.integers(0, 2**20), st.lists(st.booleans(), min_size=4, max_size=4))
def test_merged_probabilities_are_those_of_softmax_added_up(seed: int, contoured: list[bool]) -> None:
    logits = torch.randn(2, 5, 3, 3, 2, generator=seeded(seed)) * 5
    annotated = torch.tensor([[True, *contoured], [True] * 5])
    plain, merged = logits.softmax(dim=1), merge_unannotated(logits, annotated).softmax(dim=1)
    kept = annotated.clone()
    kept[:, 0] = False
    expected = plain * kept[:, :, None, None, None]
    expected[:, 0] = 1 - expected[:, 1:].sum(dim=1)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)


def test_a_case_that_is_contoured_for_all_organs_has_monais_loss() -> None:
    logits = torch.randn(2, 3, 4, 4, 4, generator=seeded())
    label = torch.randint(3, (2, 1, 4, 4, 4), generator=seeded())
    plain = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    torch.testing.assert_close(partial_loss(logits, label, ALL.expand(2, 3)), plain(logits, label))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_values_and_gradients_are_monais_for_any_organ_weight_and_layout(layout: torch.memory_format) -> None:
    label = torch.randint(3, (2, 1, 4, 5, 6), generator=seeded())
    weight = torch.tensor([1.0, 7.0, 7.0])
    monais = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True, weight=weight)
    ours = PartialDiceCELoss(2, organ_weight=7.0)
    found = []
    for loss in (ours, monais):
        logits = (3 * torch.randn(2, 3, 4, 5, 6, generator=seeded())).contiguous(memory_format=layout).requires_grad_()
        value = loss(logits, {"label": label, "annotated": ALL.expand(2, 3)} if loss is ours else label)
        value.backward()
        assert logits.grad is not None
        found.append((value.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1])


def test_an_organ_that_was_not_contoured_is_not_pushed_down() -> None:
    # Everything is "background" here, and the network believes in organ 2 everywhere.
    believed = torch.tensor([0.0, 0.0, 4.0])[None, :, None, None].repeat(1, 1, 3, 3)
    label = torch.zeros(1, 1, 3, 3)

    def gradient(*annotated: bool) -> Tensor:
        logits = believed.clone().requires_grad_()
        partial_loss(logits, label, torch.tensor([annotated])).backward()
        assert logits.grad is not None
        return logits.grad

    assert float(gradient(True, True, False)[:, 2].max()) <= 0, "descent must not lower organ 2 where nobody looked"
    assert float(gradient(True, True, True)[:, 2].min()) > 0, "it must where somebody looked and found none"


def test_what_the_network_thinks_of_an_organ_nobody_contoured_changes_no_other_organs_loss() -> None:
    logits, label = torch.randn(1, 3, 4, 4, generator=seeded()), torch.randint(2, (1, 1, 4, 4), generator=seeded())
    merged = logits.clone()
    merged[:, 0] = torch.logsumexp(logits[:, [0, 2]], dim=1)
    merged[:, 2] = -1e4
    annotated = torch.tensor([[True, True, False]])
    torch.testing.assert_close(partial_loss(logits, label, annotated), partial_loss(merged, label, annotated))


def test_voxels_of_an_organ_that_does_not_count_as_contoured_are_background() -> None:
    logits, label = torch.randn(2, 3, 4, 4, generator=seeded()), torch.randint(3, (2, 1, 4, 4), generator=seeded())
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    cleared = label.clone()
    cleared[0][label[0] == 2] = 0
    loss = partial_loss(logits, label, annotated)
    torch.testing.assert_close(loss, partial_loss(logits, cleared, annotated))
    assert float(loss) < 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_have_a_finite_loss(dtype: torch.dtype) -> None:
    logits = (torch.randn(1, 3, 4, 4, generator=seeded()) * 50).to(dtype)
    loss = partial_loss(logits, torch.zeros(1, 1, 4, 4), torch.tensor([[True, False, False]]))
    assert loss.dtype == torch.float32 and bool(loss.isfinite())


def test_an_organ_voxel_counts_as_many_times_as_its_weight_says() -> None:
    # Two voxels, one of background with loss log 2 and one of organ 1 with loss log 4: a weighted mean.
    logits = torch.tensor([[0.5, 0.25], [0.25, 0.25], [0.25, 0.5]]).log()[None]
    targets = {"label": torch.tensor([[[0, 1]]]), "annotated": ALL}
    for weight, expected in ((1.0, 1.5), (3.0, (1 + 3 * 2) / 4)):
        both, dice = (PartialDiceCELoss(2, weight, lambda_ce=share)(logits, targets) for share in (1.0, 0.0))
        loss = both - dice
        assert float(loss) == pytest.approx(expected * math.log(2), rel=1e-5)


def test_the_weight_can_change_later() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=seeded())
    targets = {"label": torch.randint(3, (2, 1, 4, 4), generator=seeded()), "annotated": ALL.repeat(2, 1)}
    changed = PartialDiceCELoss(2, organ_weight=20.0)
    changed.weigh_organs(5.0)
    torch.testing.assert_close(changed(logits, targets), PartialDiceCELoss(2, organ_weight=5.0)(logits, targets))
    assert float(changed(logits, targets)) != float(PartialDiceCELoss(2, organ_weight=20.0)(logits, targets))


def test_a_weight_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="organ_weight 0.0 is not positive"):
        PartialDiceCELoss(2, organ_weight=0.0)
