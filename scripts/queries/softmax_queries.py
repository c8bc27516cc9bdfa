"""Queries whose organ competes with all others: the decoder has an output for the background and for each organ.

In the paper only the attention says which organ is meant, and a sigmoid answers. Here the attention's log-odds are
added to the output of the queried organ, and a softmax answers (our choice; docs/studies/btcv.md).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from scripts.losses.partial_labels import PartialDiceCELoss, QueryLoss
from scripts.networks.segmenter import attention_logits


def attended_logits(logits: Tensor, attention: Tensor, organ: Tensor) -> Tensor:
    """Logits [query, 1 + organs, x, y] with the attention's log-odds on the output of the queried organ.

    Attention is [query, 1, x, y]; `organ` [query] holds class indices. A query without any attention stays as it is.
    """
    prior = attention_logits(attention, 1) * (attention.amax(dim=(1, 2, 3), keepdim=True) > 0)
    return logits.float() + prior * one_hot(organ, logits.shape[1])[:, :, None, None]


def asked_logits(logits: Tensor, organ: Tensor) -> Tensor:
    """Log-odds [query, 1, x, y] of the queried organ against all others: of (.5, .3, .2), organ 1, log(.3 / .7)."""
    asked = one_hot(organ, logits.shape[1])[:, :, None, None] > 0
    others = logits.masked_fill(asked, -1.0e4).logsumexp(dim=1, keepdim=True)
    return logits.masked_fill(~asked, 0.0).sum(dim=1, keepdim=True) - others


class SoftmaxQueryLoss(nn.Module):
    """Loss of the queried organ, plus that of all organs in the patch.

    forward: logits [query, 1 + organs, x, y] against batches of QueryBatches with ``all_organs``.
    """

    def __init__(self, asked: QueryLoss, all_organs: PartialDiceCELoss) -> None:
        super().__init__()
        self.asked, self.all_organs = asked, all_organs

    def forward(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Sum of both losses."""
        organ = targets["organ"].to(logits.device)
        logits = attended_logits(logits, targets["attention"], organ)
        of_all = self.all_organs(logits, {"label": targets["classes"], "annotated": targets["annotated"]})
        return torch.add(of_all, self.asked(asked_logits(logits, organ), targets))
