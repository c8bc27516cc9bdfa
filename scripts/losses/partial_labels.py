"""Losses where the truth is unknown: organs that were not contoured, and pixels that are IGNORED.

An organ that was not contoured is somewhere inside the "background" of such a case. Its probability is therefore added
to the background before the loss (marginal loss), instead of being punished as a false positive. Our choice; the
paper's cohorts are contoured completely.

At IGNORED pixels network and truth are both set to certain background: no cross entropy, nothing in a Dice without
background, and no gradient. Our choice: MONAI's losses have no value to ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.preprocessing.organ_labels import IGNORED
from scripts.runtime.progress import total_iterations

EXCLUDED_LOGIT = -1.0e4
SMOOTH = 1.0e-5
"""Added to both parts of a Dice, as MONAI does."""


def certain_background(logits: Tensor, ignored: Tensor) -> Tensor:
    """Logits that are certain of the background where `ignored`, and as they were elsewhere.

    Args:
        logits: [batch, class, ...], background first; or [batch, 1, ...] of one binary organ.
        ignored: [batch, 1, ...] bool.

    Example: at an ignored pixel the logits (.2, 3, 1) become (0, -1e4, -1e4), whose softmax is (1, 0, 0).
    """
    if not bool(ignored.any()):
        return logits
    if logits.shape[1] == 1:
        return logits.masked_fill(ignored, EXCLUDED_LOGIT)
    return torch.cat([logits[:, :1].masked_fill(ignored, 0.0), logits[:, 1:].masked_fill(ignored, EXCLUDED_LOGIT)], 1)


def merge_unannotated(logits: Tensor, annotated: Tensor) -> Tensor:
    """Add the probability of organs that were not contoured to the background.

    Args:
        logits: [batch, class, ...], background first.
        annotated: [batch, class] bool, True where contoured; the background column does not matter.

    Returns:
        Logits of the same shape: softmax gives p(background) + sum of p(not contoured) for class 0, p for contoured
        organs, 0 for the others.

    Example: probabilities (.5, .3, .2) with the last organ not contoured become (.7, .3, 0).
    """
    if bool(annotated[:, 1:].all()):
        return logits.float()
    samples = zip(logits.float(), annotated.tolist(), strict=True)
    return torch.stack([_merge_into_background(sample, contoured) for sample, contoured in samples])


def _merge_into_background(logits: Tensor, contoured: Sequence[bool]) -> Tensor:
    """Merge one sample [class, ...]; only the classes in question are computed, a third of the time of masking all."""
    unknown = [organ for organ, known in enumerate(contoured) if organ > 0 and not known]
    if not unknown:
        return logits
    classes = list(logits.unbind(0))
    for organ in unknown:
        classes[0] = torch.logaddexp(classes[0], classes[organ])
        classes[organ] = torch.full_like(classes[organ], EXCLUDED_LOGIT)
    return torch.stack(classes)


class PartialDiceCELoss(nn.Module):
    """DiceCE on logits whose uncontoured organs were merged into the background; IGNORED pixels do not count.

    The numbers of :class:`monai.losses.DiceCELoss` with ``softmax, to_onehot_y, batch``, of one softmax and without
    one-hot volumes, at three quarters of its time.

    Args:
        organ_weight: weight of an organ's Dice and cross entropy; the background's cross entropy weighs 1. Organs are
            some thousandths of a volume: at equal weights a 3D network needs thousands of steps before it predicts a
            small organ at all (our choice). A weight that stays high makes organs too large:
            :class:`~scripts.losses.partial_labels.OrganWeightDecay` lowers it to 1 during a stage.
        lambda_ce: weight of the cross entropy beside the Dice.
        include_background: whether the background has a Dice too.
    """

    def __init__(
        self, organs: int, organ_weight: float = 1.0, lambda_ce: float = 1.0, include_background: bool = False
    ) -> None:
        super().__init__()
        if organ_weight <= 0:
            raise ValueError(f"organ_weight {organ_weight} is not positive; 1 weighs organs like the background.")
        self.organ_weight, self.lambda_ce = float(organ_weight), float(lambda_ce)
        self.first = 0 if include_background else 1
        self.weight: Tensor
        self.register_buffer("weight", torch.ones(1 + organs))
        self.weigh_organs(organ_weight)

    def weigh_organs(self, weight: float) -> None:
        """Change the weight of organs from here on."""
        self.weight[1:] = weight

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits [batch, class, ...] against targets["label"] [batch, 1, ...] and targets["annotated"]."""
        self.to(logits.device)  # the weights are buffers; a config makes the loss before it knows the device
        label, annotated = targets["label"].long(), targets["annotated"]
        ignored = label == IGNORED
        label = label.masked_fill(ignored, 0)
        # Voxels of an organ that does not count as contoured have no truth: they belong to the merged background.
        known = annotated.to(label.device).gather(1, label.flatten(1)).reshape(label.shape)
        return self._dice_ce(certain_background(merge_unannotated(logits, annotated), ignored), label * known)

    def _dice_ce(self, logits: Tensor, label: Tensor) -> Tensor:
        """Weighted mean of both losses; label [batch, 1, ...] of whole numbers."""
        if logits.requires_grad and logits.is_contiguous(memory_format=torch.channels_last_3d):
            # Else every layer's backward pass would meet two layouts.
            logits.register_hook(partial(torch.clone, memory_format=torch.channels_last_3d))
        logs = logits.contiguous().log_softmax(1)  # of any other layout the softmax takes four times as long
        true_logs, classes = logs.gather(1, label).flatten(), label.flatten()
        voxels = torch.bincount(classes, minlength=len(self.weight)).float()
        overlap = torch.zeros_like(self.weight).index_add(0, classes, true_logs.exp())
        predicted = logs.exp().flatten(2).sum((0, 2))
        dice = 1 - (2 * overlap + SMOOTH) / (predicted + voxels + SMOOTH)
        ce = -(self.weight.index_select(0, classes) * true_logs).sum() / (self.weight * voxels).sum()
        return (self.weight * dice)[self.first :].mean() + self.lambda_ce * ce


class OrganWeightDecay:
    """Handler of a trainer: lower the organ weight of its loss geometrically to 1 (our choice).

    With weight w at the start, iteration i of n is trained at w^(1 - i / n). A high weight makes a network predict
    organs of a few thousandths of the volume within minutes, but too large; the low one at the end calibrates them.

    Example: from 16, a quarter of the stage later the weight is 8, after half 4, at the end 1.

    Args:
        loss: loss whose weight is changed; it starts with the weight that it was made with.
    """

    def __init__(self, loss: PartialDiceCELoss) -> None:
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.weigh)

    def weigh(self, engine: Engine) -> None:
        """Set the weight of this iteration; it depends on its number only, so a resumed stage goes on with it."""
        done = (engine.state.iteration - 1) / max(1, total_iterations(engine))
        self.loss.weigh_organs(self.loss.organ_weight ** (1.0 - done))


class QueryLoss(nn.Module):
    """Mean over the organs of a batch of a loss of that organ's queries; IGNORED pixels do not count.

    L = 1/|O| sum over o in O of loss(queries of o), O being the organs that the batch queries. A Dice pooled over all
    queries weighs an organ by its pixels: an esophagus has a tenth of a parotid's and hardly moves it (our choice; the
    paper does not say how its Dice is pooled).

    Args:
        loss: loss of logits [query, 1, x, y] and label [query, 1, x, y] of 0 and 1. A Dice should pool its queries
            (MONAI: batch=True), since a query whose organ is absent has none.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits [query, 1, x, y] against targets["label"] [query, 1, x, y] and targets["organ"] [query].

        The mean of a cross entropy still divides by all pixels, so that a border of ignored pixels scales it a little.
        """
        label, organ = targets["label"], targets["organ"]
        ignored = label == IGNORED
        logits, label = certain_background(logits, ignored), label.masked_fill(ignored, 0)
        queried = organ.to(logits.device)
        return torch.stack([self.loss(logits[queried == one], label[queried == one]) for one in organ.unique()]).mean()
