"""Supervised contrastive loss over views, and the rule that says which views are positives.

SupCon, L_out (Khosla et al., arXiv 2004.11362, eq. 2), with the intensity weights of the follow-up (arXiv 2210.08652)
as an option. Unit embeddings z, temperature t, A(i) the other views of the batch, P(i) those of the label of i::

    L_i = log sum_{a in A(i)} exp(w_ia z_i.z_a / t)  -  mean_{p in P(i)} w_ip z_i.z_p / t

averaged over the anchors i that have a positive; w = 1 is SupCon.
"""

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from scripts.runtime.processes import rank, world_size

# Room for contrast phases in a fused label. Fixed, not read off the batch, so that processes agree on labels.
PHASE_STRIDE = 1 << 16
# Which targets decide that two views are positives.
POSITIVES = {"organ_phase": ("organ", "phase"), "organ": ("organ",), "query": ("query",), "position": ("position",)}


class SupConLoss(nn.Module):
    """Supervised contrastive loss, L_out, in float32 whatever the autocast state.

    Our choices: embeddings are L2-normalised again in float32 (half precision is unit norm only to 1e-3); no base
    temperature, a mere scale; an anchor without a positive is left out; none in a batch costs 0. TF32 products, off by
    default in PyTorch, are coarse at low temperatures (error / t).

    Several processes (``gather=True``; alone it has no effect): each takes its own views as anchors and the views of
    all as contrast; sizes may differ, all must call. Each returns the loss of the joint batch; *after
    DistributedDataParallel's mean* the gradient is the one of a single process with the joint batch.

    Example: two tight orthogonal classes of two views cost log(e^(1/t) + 2) - 1/t::

        >>> views = torch.eye(2).repeat_interleave(2, dim=0)
        >>> SupConLoss(temperature=1.0)(views, torch.tensor([0, 0, 1, 1]))
        tensor(0.5514)

    The `temperature` t is positive and finite, else ValueError; the public code of the follow-up uses 0.07 to 0.3.
    `intensity_weighting` multiplies the logits by w_ij = 1 - |m_i - m_j|, m the mean windowed intensity of a view's
    organ, before the max shift (the public code does it after, which changes the loss).
    """

    def __init__(self, temperature: float = 0.1, gather: bool = False, intensity_weighting: bool = False) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature is {temperature}, expected a positive finite number such as 0.1.")
        self.temperature, self.gather, self.intensity_weighting = temperature, gather, intensity_weighting

    def forward(self, embeddings: Tensor, labels: Tensor, intensities: Tensor | None = None) -> Tensor:
        """Cost of views [views, dim], float32 (float64 for float64 embeddings); equal integer labels are positives.

        Intensities [views] in [0, 1] are read by ``intensity_weighting`` only, without gradient. Shapes and types are
        checked (ValueError), and no values, so that no step waits for a GPU.
        """
        if embeddings.ndim != 2 or not embeddings.is_floating_point():
            given = f"{embeddings.dtype} of shape {tuple(embeddings.shape)}"
            raise ValueError(f"embeddings are {given}, expected floating point [views, dim]; flatten other axes first.")
        _check_integers("labels", labels, len(embeddings))
        weighted_by = _checked_intensities(embeddings, intensities) if self.intensity_weighting else None
        labels = labels.to(embeddings.device, torch.int64)
        with torch.autocast(embeddings.device.type, enabled=False):
            precision = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
            views = normalize(embeddings.to(precision), dim=1)
            processes = world_size() if self.gather else 1
            if processes == 1:
                return self._mean_over_anchors(views, labels, weighted_by, slice(0, len(views)))
            own, total = _place_in_joint_batch(len(views), views.device)
            views, labels = _join_rows(views, own, total), _join_rows(labels, own, total)
            weighted_by = None if weighted_by is None else _join_rows(weighted_by, own, total)
            loss = processes * self._mean_over_anchors(views, labels, weighted_by, own)
            # The value of the mean over processes, with the gradient of our share.
            return loss + (_sum_over_processes(loss) / processes - loss.detach())

    def _mean_over_anchors(self, views: Tensor, labels: Tensor, intensities: Tensor | None, own: slice) -> Tensor:
        """Sum of L_i over the own anchors, divided by the number of anchors of all `views` with a positive."""
        # Sorting finds classes and their sizes with static shapes, so a GPU need not wait for the host.
        in_order = labels.sort().values
        class_of = torch.searchsorted(in_order, labels)
        positives = torch.searchsorted(in_order, labels, right=True) - class_of - 1
        logits = (views[own] / self.temperature) @ views.T
        if intensities is not None:
            differences = intensities.to(views.dtype)[own, None] - intensities.to(views.dtype)
            logits = logits.mul_(differences.abs_().neg_().add_(1.0))
        with torch.no_grad():
            # Before max and log-sum-exp: at a low temperature the self term would be the maximum and the rest
            # underflow. Autograd need not know: the softmax, hence the gradient, is exactly 0 there.
            logits.diagonal(offset=own.start).fill_(torch.finfo(logits.dtype).min)

        if intensities is None:
            # Sums per class, so that one [views, views] matrix alone is kept for the backward pass.
            class_sums = torch.zeros_like(views).index_add(0, class_of, views)
            others = class_sums.index_select(0, class_of[own]) - views[own]
            attraction = (views[own] * others).sum(dim=1) / self.temperature
        else:
            same = labels[own, None] == labels
            same.diagonal(offset=own.start).fill_(False)
            attraction = torch.where(same, logits, 0.0).sum(dim=1)
        losses = logits.logsumexp(dim=1) - attraction / positives[own].clamp(min=1)
        anchors = (positives > 0).sum().clamp(min=1)
        return torch.where(positives[own] > 0, losses, 0.0).sum() / anchors


class ContrastiveCriterion(nn.Module):
    """Turn the targets of a batch of views into labels and hand them, with the intensities, to the loss.

    `positives` says which views attract: ``"organ_phase"``: those of one organ in one contrast phase (the 24 classes of
    the public code); ``"organ"``: whatever the phase; ``"query"``: only the views of one query patch (SimCLR);
    ``"position"``: slices of the same part of their volumes (PCL, Zeng et al., arXiv 2106.09157); else a ValueError.
    """

    def __init__(self, loss: SupConLoss, positives: str = "organ_phase") -> None:
        super().__init__()
        if positives not in POSITIVES:
            raise ValueError(f"positives is {positives!r}, expected one of {', '.join(map(repr, POSITIVES))}.")
        self.loss, self.positives = loss, positives

    def forward(self, embeddings: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cost of views [views, dim], as from `SupConLoss`; ValueError: a needed target is missing or misshapen.

        Targets are integers [views] each: ``organ`` (class index >= 1), ``phase`` (>= 0, 0 if unknown), ``query`` (>=
        0, patch that a view came from, unique within a process), ``position`` (>= 0, part of the volume that its slice
        lies in); and ``intensity`` [views] in [0, 1]. Only those that `positives` and the loss need are read.
        """
        for name in POSITIVES[self.positives]:
            if name not in targets:
                there = ", ".join(targets) or "none"
                raise ValueError(f"targets lack {name!r} (there are: {there}); add it, int64 [views].")
            _check_integers(f"targets[{name!r}]", targets[name], len(embeddings))
        named = [targets[name].to(torch.int64) for name in POSITIVES[self.positives]]
        labels = named[0] if len(named) == 1 else named[0] * PHASE_STRIDE + named[1]
        if self.positives == "query" and self.loss.gather:
            labels = labels * world_size() + rank()  # query 3 here is not query 3 there
        cost: Tensor = self.loss(embeddings, labels, targets.get("intensity"))
        return cost


def _check_integers(name: str, values: Tensor, views: int) -> None:
    whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    if tuple(values.shape) != (views,) or not whole:
        given = f"{values.dtype} of shape {tuple(values.shape)}"
        raise ValueError(f"{name} is {given}, expected int64 of shape [{views}], one for each row of the embeddings.")


def _checked_intensities(embeddings: Tensor, intensities: Tensor | None) -> Tensor:
    if intensities is None:
        raise ValueError("intensity_weighting is on but no intensities came; give [views] or switch it off.")
    if intensities.shape != embeddings.shape[:1]:
        raise ValueError(f"intensities have shape {tuple(intensities.shape)}, expected [{len(embeddings)}].")
    return intensities.detach().to(embeddings.device, torch.promote_types(intensities.dtype, torch.float32))


def _place_in_joint_batch(rows: int, device: torch.device) -> tuple[slice, int]:
    """Which rows of the joint batch, in order of rank, are those of this process, and how many it has."""
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=device)
    sizes[rank()] = rows
    counts = _sum_over_processes(sizes).tolist()
    start = sum(counts[: rank()])
    return slice(start, start + rows), sum(counts)


def _join_rows(rows: Tensor, own: slice, total: int) -> Tensor:
    """The joint batch [total, ...] of rows [own, ...]; the gradients of all processes go back to our rows."""
    # A sum of zero-padded parts instead of all_gather, which wants equal batch sizes and has no gradient.
    padded = pad(rows, [0, 0] * (rows.ndim - 1) + [own.start, total - own.stop])
    joint = padded + (_sum_over_processes(padded) - padded.detach())
    if joint.requires_grad:
        joint.register_hook(_sum_over_processes)
    return joint


def _sum_over_processes(values: Tensor) -> Tensor:
    """The sum without a gradient; all processes of the default group have to call it."""
    summed = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed
