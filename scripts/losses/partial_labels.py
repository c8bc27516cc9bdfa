"""Losses where the truth is unknown: organs that were not contoured, and pixels that are IGNORED.

An organ that was not contoured is somewhere inside the "background" of such a case. Its probability is added to the
background before the loss (marginal loss), not punished as a false positive. Our choice; the paper's are complete.

At IGNORED pixels network and truth are both set to certain background: no cross entropy, nothing in a Dice without
background, and no gradient. Our choice: MONAI's losses have no value to ignore.
"""

from collections.abc import Mapping
from functools import partial

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.preprocessing.organ_labels import IGNORED
from scripts.runtime.progress import total_iterations

EXCLUDED_LOGIT = -1.0e4
SMOOTH = 1.0e-5  # added to both parts of a Dice, as MONAI does


def certain_background(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and label that are certain of the background where the label [batch, 1, ...] is IGNORED.

    Logits are [batch, class, ...], background first, or [batch, 1, ...] of one binary organ. Example: at an ignored
    pixel (.2, 3, 1) becomes (0, -1e4, -1e4), whose softmax is (1, 0, 0).
    """
    ignored = label == IGNORED
    if bool(ignored.any()):
        first_organ = 0 if logits.shape[1] == 1 else 1
        background, organs = logits[:, :first_organ], logits[:, first_organ:]
        logits = torch.cat([background.masked_fill(ignored, 0.0), organs.masked_fill(ignored, EXCLUDED_LOGIT)], dim=1)
    return logits, label.masked_fill(ignored, 0)


def merge_unannotated(logits: Tensor, annotated: Tensor) -> Tensor:
    """Add the probability of organs that were not contoured to the background, class 0 of logits [batch, class, ...].

    `annotated` [batch, class] bool is True where contoured; its background column does not matter. The softmax of the
    result is 0 for organs that were not. Example: (.5, .3, .2) with the last organ not contoured becomes (.7, .3, 0).
    """
    if bool(annotated[:, 1:].all()):
        return logits.float()
    merged = []
    for sample, contoured in zip(logits.float(), annotated.tolist(), strict=True):
        unknown = [organ for organ, known in enumerate(contoured) if organ > 0 and not known]
        # Only the classes in question are computed, in a third of the time of masking all.
        classes = list(sample.unbind(0))
        for organ in unknown:
            classes[0] = torch.logaddexp(classes[0], classes[organ])
            classes[organ] = torch.full_like(classes[organ], EXCLUDED_LOGIT)
        merged.append(torch.stack(classes) if unknown else sample)
    return torch.stack(merged)


class PartialDiceCELoss(nn.Module):
    """DiceCE on logits whose uncontoured organs were merged into the background; IGNORED pixels do not count.

    The numbers of :class:`monai.losses.DiceCELoss` with ``softmax, to_onehot_y, batch``, without one-hot volumes, at
    three quarters of its time. `organ_weight` weighs an organ's Dice and cross entropy; the background's cross entropy
    weighs 1. Organs are some thousandths of a volume: at equal weights a 3D network needs thousands of steps before it
    predicts a small one (our choice). :class:`OrganWeightDecay` lowers it to 1. `lambda_ce` weighs cross entropy.
    """

    def __init__(self, organs: int, organ_weight: float = 1.0, lambda_ce: float = 1.0) -> None:
        super().__init__()
        if organ_weight <= 0:
            raise ValueError(f"organ_weight {organ_weight} is not positive; 1 weighs organs like the background.")
        self.organ_weight, self.lambda_ce = float(organ_weight), float(lambda_ce)
        self.weight: Tensor
        self.register_buffer("weight", torch.ones(1 + organs))
        self.weigh_organs(organ_weight)

    def weigh_organs(self, weight: float) -> None:
        """Change the weight of organs from here on."""
        self.weight[1:] = weight

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits [batch, class, ...] against targets["label"] [batch, 1, ...] and targets["annotated"]."""
        self.to(logits.device)  # the weights are buffers; a config makes the loss before it knows the device
        annotated = targets["annotated"]
        logits, label = certain_background(merge_unannotated(logits, annotated), targets["label"].long())
        # Voxels of an organ that does not count as contoured have no truth: they belong to the merged background.
        known = annotated.to(label.device).gather(1, label.flatten(1)).reshape(label.shape)
        return self._dice_ce(logits, label * known)

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
        return (self.weight * dice)[1:].mean() + self.lambda_ce * ce


class OrganWeightDecay:
    """Handler of a trainer: lower the organ weight of its loss geometrically to 1 (our choice).

    With the weight w that the loss was made with, iteration i of n is trained at w^(1 - i / n): from 16, the weight is
    8 after a quarter of the stage, 4 after half of it, and 1 at the end. A high weight makes a network predict organs
    of a few thousandths of the volume within minutes, but too large; the low one at the end calibrates them. The stage
    has `epochs` (None: those of its trainer, which of federated learning are one round's).
    """

    def __init__(self, loss: PartialDiceCELoss, epochs: int | None = None) -> None:
        self.loss, self.epochs = loss, epochs

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.weigh)

    def weigh(self, engine: Engine) -> None:
        """Set the weight of this iteration; it depends on its number only, so a resumed stage goes on with it."""
        done = (engine.state.iteration - 1) / max(1, total_iterations(engine, self.epochs))
        self.loss.weigh_organs(self.loss.organ_weight ** (1.0 - min(done, 1.0)))


class QueryLoss(nn.Module):
    """Mean over the organs of a batch of a loss of that organ's queries; IGNORED pixels do not count.

    L = 1/|O| sum over o in O of loss(queries of o), O being the organs that the batch queries. A Dice pooled over all
    queries weighs an organ by its pixels: an esophagus has a tenth of a parotid's and hardly moves it (our choice; the
    paper does not say how its Dice is pooled). `loss` takes logits and label [query, 1, x, y], the latter of 0 and 1. A
    Dice should pool its queries (MONAI: batch=True), since a query whose organ is absent has none.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of logits [query, 1, x, y] against targets["label"] [query, 1, x, y] and targets["organ"] [query].

        The mean of a cross entropy still divides by all pixels, so that a border of ignored pixels scales it a little.
        """
        logits, label = certain_background(logits, targets["label"])
        organ = targets["organ"]
        queried = organ.to(logits.device)
        return torch.stack([self.loss(logits[queried == one], label[queried == one]) for one in organ.unique()]).mean()
