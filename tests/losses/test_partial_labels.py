"""The loss of cases that were contoured for some organs only."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceCELoss
from torch import Tensor

from scripts.losses.partial_labels import PartialDiceCELoss, merge_unannotated

ALL = torch.tensor([[True, True, True]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(logits: Tensor, *annotated: bool) -> list[float]:
    merged = merge_unannotated(logits[None, :, None], torch.tensor([annotated]))
    return [round(value, 6) for value in merged.softmax(dim=1).flatten().tolist()]


def loss_of(logits: Tensor, label: Tensor, annotated: Tensor) -> Tensor:
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
    torch.testing.assert_close(loss_of(logits, label, ALL.expand(2, 3)), plain(logits, label))


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
        loss_of(logits, label, torch.tensor([annotated])).backward()
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
    torch.testing.assert_close(loss_of(logits, label, annotated), loss_of(merged, label, annotated))


def test_voxels_of_an_organ_that_does_not_count_as_contoured_are_background() -> None:
    logits, label = torch.randn(2, 3, 4, 4, generator=seeded()), torch.randint(3, (2, 1, 4, 4), generator=seeded())
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    cleared = label.clone()
    cleared[0][label[0] == 2] = 0
    loss = loss_of(logits, label, annotated)
    torch.testing.assert_close(loss, loss_of(logits, cleared, annotated))
    assert float(loss) < 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_have_a_finite_loss(dtype: torch.dtype) -> None:
    logits = (torch.randn(1, 3, 4, 4, generator=seeded()) * 50).to(dtype)
    loss = loss_of(logits, torch.zeros(1, 1, 4, 4), torch.tensor([[True, False, False]]))
    assert loss.dtype == torch.float32 and bool(loss.isfinite())


def test_settings_of_monais_loss_are_passed_on() -> None:
    logits, label = torch.randn(1, 3, 4, 4, generator=seeded()), torch.randint(3, (1, 1, 4, 4), generator=seeded())
    targets = {"label": label, "annotated": ALL}
    only_dice = PartialDiceCELoss(2, lambda_ce=0.0, include_background=True)(logits, targets)
    plain = DiceCELoss(to_onehot_y=True, softmax=True, batch=True, lambda_ce=0.0)(logits, label)
    torch.testing.assert_close(only_dice, plain)


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
