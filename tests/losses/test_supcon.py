"""The supervised contrastive loss against its equation, its closed forms and its known traps."""

from __future__ import annotations

import gc
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.spawn import spawn

from scripts.losses.supcon import ContrastiveCriterion, SupConLoss


def equation(embeddings: Tensor, labels: Tensor, temperature: float, intensities: Tensor | None = None) -> float:
    """Equation 2 of arXiv 2004.11362, term by term, with the weights of arXiv 2210.08652."""
    z = [row / row.norm() for row in embeddings.double()]
    m = torch.zeros(len(z)).double() if intensities is None else intensities.double()
    losses = []
    for i in range(len(z)):
        logit = {
            a: float((1 - abs(m[i] - m[a])) * (z[i] @ z[a])) / temperature for a in range(len(z)) if a != i
        }  # A(i): every view but i
        positives = [p for p in logit if labels[p] == labels[i]]
        if positives:
            top = max(logit.values())
            log_sum = top + math.log(sum(math.exp(value - top) for value in logit.values()))
            losses.append(-sum(logit[p] - log_sum for p in positives) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


def batch_of(views: int, classes: int = 4, dim: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [views, dim] (not normalised), labels [views], intensities [views]."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(views, dim, generator=generator)
    labels = torch.randint(classes, (views,), generator=generator)
    return embeddings, labels, torch.rand(views, generator=generator)


def backward(loss: Tensor) -> None:
    """Back-propagate (typed here once; torch leaves it untyped)."""
    loss.backward()


@pytest.mark.parametrize("weighting", [False, True])
@pytest.mark.parametrize("temperature", [0.005, 0.07, 0.3, 1.0])
@pytest.mark.parametrize("views", [2, 3, 8, 33])
def test_it_is_the_equation(views: int, temperature: float, weighting: bool) -> None:
    embeddings, labels, intensities = batch_of(views)
    loss = SupConLoss(temperature, intensity_weighting=weighting)
    expected = equation(embeddings, labels, temperature, intensities if weighting else None)
    assert float(loss(embeddings, labels, intensities)) == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert float(loss(embeddings.double(), labels, intensities)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_computed_in_float32(dtype: torch.dtype, temperature: float) -> None:
    embeddings, labels, _ = batch_of(24)
    rounded = embeddings.to(dtype).requires_grad_()
    loss = SupConLoss(temperature)(rounded, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(equation(rounded.detach(), labels, temperature), rel=1e-5, abs=1e-4)
    # Beside the unrounded embeddings only the rounding of the input shows: 8 or 11 significant bits, over t.
    slack = 2 * torch.finfo(dtype).eps / temperature
    assert loss.item() == pytest.approx(equation(embeddings, labels, temperature), abs=slack)
    backward(loss)
    assert rounded.grad is not None and rounded.grad.dtype == dtype and rounded.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    embeddings, labels, intensities = batch_of(24)
    loss = SupConLoss(0.01, intensity_weighting=True)
    expected = loss(embeddings, labels, intensities)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(embeddings, labels, intensities), expected)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_two_tight_orthogonal_classes_of_two_views_have_a_closed_form(temperature: float) -> None:
    views = torch.eye(2).repeat_interleave(2, dim=0)
    loss = float(SupConLoss(temperature)(views, torch.tensor([0, 0, 1, 1])))
    # A factor temperature / base_temperature would show here.
    assert loss == pytest.approx(math.log(math.exp(1 / temperature) + 2) - 1 / temperature, abs=2e-6)
    if temperature == 1.0:
        assert loss == pytest.approx(0.5514, abs=5e-5)


@pytest.mark.parametrize("temperature", [0.005, 1.0])
@pytest.mark.parametrize("views", [2, 5, 64])
def test_equal_embeddings_of_one_class_cost_the_log_of_the_other_views(views: int, temperature: float) -> None:
    loss = SupConLoss(temperature)(torch.ones(views, 7), torch.zeros(views, dtype=torch.int64))
    assert loss.item() == pytest.approx(math.log(views - 1), abs=2e-4)


def test_an_anchor_without_a_positive_is_left_out_of_the_mean() -> None:
    # Anchors 0 and 1: log(e^1 + e^0) - 1 each. Anchor 2 has no positive: neither NaN nor a third term of 0.
    views = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = SupConLoss(1.0)(views, torch.tensor([7, 7, 9]))
    assert loss.item() == pytest.approx(math.log(math.e + 1) - 1, abs=1e-6)


@pytest.mark.parametrize("weighting", [False, True])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_a_batch_without_any_positive_costs_zero_and_has_zero_gradients(views: int, weighting: bool) -> None:
    embeddings = torch.randn(views, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = SupConLoss(0.005, intensity_weighting=weighting)(embeddings, torch.arange(views), torch.zeros(views))
    backward(loss)
    assert loss.item() == 0 and embeddings.grad is not None
    assert torch.equal(embeddings.grad, torch.zeros(views, 3))


@pytest.mark.parametrize("weighting", [False, True])
def test_the_self_similarity_is_masked_before_the_maximum(weighting: bool) -> None:
    # Orthogonal views at t = 0.005: were 200 (the self term) subtracted as maximum, all others would be e^-200 = 0.
    views = torch.eye(6).requires_grad_()
    loss = SupConLoss(0.005, intensity_weighting=weighting)(views, torch.tensor([0, 0, 0, 1, 1, 1]), torch.ones(6))
    backward(loss)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6)
    assert views.grad is not None and views.grad.isfinite().all() and views.grad.abs().sum() > 0


@pytest.mark.parametrize("weighting", [False, True])
def test_the_gradient_is_the_one_of_finite_differences(weighting: bool) -> None:
    embeddings, labels, intensities = batch_of(7, classes=3, dim=4)
    labels[0] = 9  # one anchor without a positive
    loss = SupConLoss(0.2, intensity_weighting=weighting)
    leaf = embeddings.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, intensities.double()), (leaf,))


def test_without_weights_one_matrix_is_kept_for_the_backward_pass() -> None:
    embeddings, labels, _ = batch_of(40)
    kept: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.numel() == 40 * 40:
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backward(SupConLoss()(embeddings.requires_grad_(), labels))
    assert len(kept) == 1


def test_equal_intensities_leave_the_loss_unweighted() -> None:
    embeddings, labels, _ = batch_of(24)
    weighted = SupConLoss(0.1, intensity_weighting=True)(embeddings, labels, torch.full((24,), 0.3))
    assert weighted.item() == pytest.approx(SupConLoss(0.1)(embeddings, labels).item(), rel=1e-6)


def test_a_weight_scales_the_logit_before_the_log_sum_exp() -> None:
    # Cosines 0.8 (0, 1), 0.6 (0, 2) and 0.96 (1, 2); weights 0.5, 0.25 and 0.75; only 0 and 1 are positives.
    # Weighting after a shift by the self similarity 1 would cost anchor 0 log(e^-0.1 + e^-0.1) + 0.1 = log 2.
    views = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    anchor_0 = math.log(math.exp(0.5 * 0.8) + math.exp(0.25 * 0.6)) - 0.5 * 0.8
    anchor_1 = math.log(math.exp(0.5 * 0.8) + math.exp(0.75 * 0.96)) - 0.5 * 0.8
    loss = SupConLoss(1.0, intensity_weighting=True)
    cost = loss(views, torch.tensor([1, 1, 2]), torch.tensor([0.0, 0.5, 0.75]))
    assert cost.item() == pytest.approx((anchor_0 + anchor_1) / 2, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), views=st.integers(2, 20), temperature=st.floats(0.005, 1.0))
def test_neither_the_order_of_the_views_nor_a_rotation_matters(seed: int, views: int, temperature: float) -> None:
    embeddings, labels, intensities = batch_of(views, dim=6, seed=seed)
    embeddings, intensities = embeddings.double(), intensities.double()
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator).double()).Q
    order = torch.randperm(views, generator=generator)
    loss = SupConLoss(temperature, intensity_weighting=True)
    expected = pytest.approx(loss(embeddings, labels, intensities).item(), rel=1e-9, abs=1e-9)
    assert loss(embeddings @ rotation, labels, intensities).item() == expected
    assert loss(embeddings[order], labels[order], intensities[order]).item() == expected


@pytest.mark.parametrize("views", [16, 65])
def test_it_agrees_with_pytorch_metric_learning(views: int) -> None:
    theirs = pytest.importorskip("pytorch_metric_learning.losses").SupConLoss(temperature=0.1)
    embeddings, labels, _ = batch_of(views, classes=12)
    assert SupConLoss(0.1)(embeddings, labels).item() == pytest.approx(theirs(embeddings, labels).item(), abs=5e-6)


# Two processes: name -> (views of each process, weighting, positives). Organs meet across processes; each process
# numbers its queries from 0, and those must not meet.
JOINT_CASES = {
    "even": ([6, 6], False, "organ"),
    "uneven": ([5, 3], True, "organ_phase"),
    "one_empty": ([4, 0], False, "organ"),
    "no_positives": ([1, 1], False, "query"),
    "queries": ([8, 6], False, "query"),
}


def targets_of(sizes: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs [views, 5] and targets of the joint batch: two views of each query, queries of rank 1 from 1000 on."""
    inputs, organ, intensity = batch_of(sum(sizes), classes=3, dim=5, seed=3)
    query = torch.cat([1000 * rank + torch.arange(size) // 2 for rank, size in enumerate(sizes)])
    return inputs, {"organ": organ + 1, "phase": organ % 2, "query": query, "intensity": intensity}


def joint_results(rank: int) -> dict[str, tuple[float, Tensor | None]]:
    """Loss and DistributedDataParallel gradient of every joint case, as seen by one process."""
    results = {}
    for name, (sizes, weighting, positives) in JOINT_CASES.items():
        inputs, targets = targets_of(sizes)
        own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        mine = {key: values[own] for key, values in targets.items()} | {"query": targets["query"][own] % 1000}
        torch.manual_seed(0)
        model = nn.parallel.DistributedDataParallel(nn.Linear(5, 4).double())
        loss = SupConLoss(0.1, gather=True, intensity_weighting=weighting)
        cost = ContrastiveCriterion(loss, positives)(model(inputs[own].double()), mine)
        backward(cost)
        results[name] = (cost.item(), model.module.weight.grad)
    return results


def one_of_two_processes(rank: int, folder: str) -> None:
    """Body of a spawned process: save its `joint_results`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(joint_results(rank), f"{folder}/{rank}.pt")
    # Gloo's threads live as long as the group; unless what still holds it is collected first, they may free a
    # finished all-reduce while the interpreter shuts down, which aborts about one run in seven (PyTorch 2.13).
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs the gloo backend")
def test_two_processes_have_the_loss_and_gradient_of_one_with_the_joint_batch(tmp_path: Path) -> None:
    spawn(one_of_two_processes, args=(str(tmp_path),), nprocs=2)
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (sizes, weighting, positives) in JOINT_CASES.items():
        inputs, targets = targets_of(sizes)
        torch.manual_seed(0)
        model = nn.Linear(5, 4).double()
        loss = SupConLoss(0.1, gather=True, intensity_weighting=weighting)  # a lone process ignores gather
        cost = ContrastiveCriterion(loss, positives)(model(inputs.double()), targets)
        backward(cost)
        assert (cost.item() > 0) == (name != "no_positives")
        for joint_cost, gradient in (results[name] for results in by_rank):
            assert joint_cost == pytest.approx(cost.item(), rel=1e-12), name
            torch.testing.assert_close(gradient, model.weight.grad, msg=name)


def test_positives_follow_the_chosen_targets() -> None:
    embeddings, _, _ = batch_of(6)
    organ, phase, query = torch.tensor([[1, 1, 1, 1, 2, 2], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2]])
    targets = {"organ": organ, "phase": phase, "query": query}
    for positives, labels in {"organ": organ, "organ_phase": query, "query": query}.items():
        expected = SupConLoss()(embeddings, labels)
        assert torch.equal(ContrastiveCriterion(SupConLoss(), positives)(embeddings, targets), expected)


@given(views=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 5)), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_organ_and_phase_are_fused_injectively(views: list[tuple[int, int]]) -> None:
    class Recorder(SupConLoss):
        def forward(self, embeddings: Tensor, labels: Tensor, intensities: Tensor | None = None) -> Tensor:
            return labels

    organ, phase = torch.tensor(views).T
    labels = ContrastiveCriterion(Recorder())(torch.ones(len(views), 2), {"organ": organ, "phase": phase})
    assert len(set(labels.tolist())) == len(set(views))


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature is .* expected a positive finite number"):
        SupConLoss(temperature)


@pytest.mark.parametrize(
    ("embeddings", "labels", "intensities", "message"),
    [
        (torch.ones(4), torch.arange(4), torch.ones(4), r"embeddings are .*expected floating point \[views, dim\]"),
        (torch.ones(4, 2).long(), torch.arange(4), torch.ones(4), "embeddings are torch.int64"),
        (torch.ones(4, 2), torch.arange(3), torch.ones(4), r"labels is .*\(3,\), expected int64 of shape \[4\]"),
        (torch.ones(4, 2), torch.ones(4), torch.ones(4), "labels is torch.float32"),
        (torch.ones(4, 2), torch.arange(4), None, "no intensities came"),
        (torch.ones(4, 2), torch.arange(4), torch.ones(4, 1), r"intensities have shape \(4, 1\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    embeddings: Tensor, labels: Tensor, intensities: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SupConLoss(intensity_weighting=True)(embeddings, labels, intensities)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"organ": torch.ones(2).long()}, "targets lack 'phase'"),
        ({"organ": torch.ones(2), "phase": torch.zeros(2).long()}, "targets.'organ'. is torch.float32"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastiveCriterion(SupConLoss())(torch.ones(2, 3), targets)


def test_the_loss_reads_no_value_of_a_batch_so_that_no_step_waits_for_a_gpu() -> None:
    """Fake tensors have shapes and no values: to ask for a value raises."""
    with FakeTensorMode():
        targets = {"organ": torch.ones(4, dtype=torch.int64), "phase": torch.zeros(4, dtype=torch.int64)}
        targets["intensity"] = torch.ones(4)
        for weighting in (False, True):
            criterion = ContrastiveCriterion(SupConLoss(intensity_weighting=weighting))
            assert criterion(torch.ones(4, 3), targets).shape == ()


def test_an_unknown_rule_for_positives_is_refused() -> None:
    with pytest.raises(ValueError, match="positives is 'phase', expected one of 'organ_phase', 'organ', 'query'"):
        ContrastiveCriterion(SupConLoss(), "phase")
