"""The working grid: labels go there and back to the scan's own grid, in one piece where an organ is one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor
from nibabel.orientations import aff2axcodes
from torch import Tensor

from scripts.preprocessing import resampling
from scripts.preprocessing.resampling import SLICES_PER_SLAB, resample_classes, resample_labels
from scripts.preprocessing.working_grid import ScoresToScanLabelsd, ToWorkingGrid, ToWorkingGridd, without_other_parts

DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
ORIENTATIONS = [codes for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]
EYE = torch.eye(4, dtype=torch.float64)


def affine_of(codes: Sequence[str], spacing: Sequence[float], shape: Sequence[int], degrees: float = 0.0) -> Tensor:
    """Voxel-to-world matrix of a scan centred at the origin, turned about the body's long axis."""
    axes = np.zeros((3, 3))
    for voxel_axis, code in enumerate(codes):
        world_axis, sign = DIRECTIONS[code]
        axes[world_axis, voxel_axis] = sign * spacing[voxel_axis]
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return torch.from_numpy(affine)


def world_of(shape: Sequence[int], affine: Tensor) -> Tensor:
    """World coordinates [i, j, k, 3] in mm of all voxels."""
    voxels = torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in shape], indexing="ij"), dim=-1)
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def scan_of(voxels: Tensor, affine: Tensor) -> MetaTensor:
    """A scan as `LoadImage` returns it."""
    meta = {"original_affine": affine.numpy(), "spatial_shape": np.array(voxels.shape)}
    return MetaTensor(voxels[None].float(), affine=affine, meta=meta)


def restore(on_grid: MetaTensor, scores: Tensor) -> MetaTensor:
    """Class scores on the working grid -> labels on the scan's grid."""
    restored: MetaTensor = ScoresToScanLabelsd("pred")({"image": on_grid, "pred": scores})["pred"]
    return restored


def one_hot(labels: Tensor, organs: int) -> Tensor:
    return torch.stack([(labels == index).float() for index in range(organs + 1)])


def dice(first: Tensor, second: Tensor) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@st.composite
def scan_grids(draw: st.DrawFn) -> tuple[list[int], Tensor]:
    """Shape and affine of scans of about 60 mm in every orientation, anisotropic, oblique, of odd and even sizes."""
    codes = draw(st.sampled_from(ORIENTATIONS))
    spacing = [draw(st.floats(1.0, 4.0)) for _ in range(3)]
    shape = [int(60 / mm) + draw(st.integers(0, 3)) for mm in spacing]
    return shape, affine_of(codes, spacing, shape, draw(st.sampled_from([0.0, 0.0, 7.0, -20.0])))


@settings(max_examples=40)
@given(scan_grids(), st.tuples(st.floats(1.0, 3.0), st.floats(1.0, 3.0), st.floats(1.0, 4.0)))
def test_a_smooth_organ_survives_the_way_to_the_working_grid_and_back(
    grid: tuple[list[int], Tensor], spacing: tuple[float, float, float]
) -> None:
    shape, affine = grid
    labels = (world_of(shape, affine).norm(dim=-1) < 21).to(torch.uint8)
    on_grid = ToWorkingGrid(spacing)(scan_of(labels, affine))
    there = resample_labels(labels, affine, on_grid.affine, on_grid.shape[1:])
    back = restore(on_grid, one_hot(there, 1))
    assert back.shape == (1, *shape)
    assert back.dtype == torch.uint8
    assert torch.equal(back.affine, affine), "the scan's affine has to come back to the bit"
    assert dice(back.as_tensor()[0] == 1, labels == 1) > 0.93


@settings(max_examples=40)
@given(scan_grids())
def test_every_voxel_of_the_working_grid_shows_its_place_in_the_patient(grid: tuple[list[int], Tensor]) -> None:
    shape, affine = grid
    gradient = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    on_grid = ToWorkingGrid([2.0, 2.5, 3.0])(scan_of(world_of(shape, affine) @ gradient, affine))
    expected = world_of(on_grid.shape[1:], on_grid.affine) @ gradient
    # Linear interpolation keeps a linear image; the outermost voxels may lie beyond the scan's voxel centres.
    inner = tuple(slice(2, -2) for _ in range(3))
    assert torch.allclose(on_grid.as_tensor()[0].double()[inner], expected[inner], atol=1e-2)
    assert torch.allclose(on_grid.pixdim.double(), torch.tensor([2.0, 2.5, 3.0], dtype=torch.float64), atol=1e-5)
    if abs(float(affine[0, 1])) < 1e-9:
        assert aff2axcodes(on_grid.affine.numpy()) == ("R", "A", "S")


@settings(max_examples=25)
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 5)))
def test_a_scan_that_lies_on_the_working_grid_already_keeps_every_voxel(voxels: np.ndarray[Any, Any]) -> None:
    labels = torch.from_numpy(voxels)
    affine = affine_of("RAS", [2.0, 2.0, 3.0], labels.shape)
    on_grid = ToWorkingGrid([2.0, 2.0, 3.0])(scan_of(labels, affine))
    assert torch.equal(on_grid.as_tensor()[0], labels.float())
    there = resample_labels(labels, affine, on_grid.affine, on_grid.shape[1:])
    assert torch.equal(there, labels)
    assert torch.equal(restore(on_grid, one_hot(there, 5)).as_tensor()[0], labels)


def test_no_hole_opens_where_four_organs_meet() -> None:
    # Four organs, one in each quadrant: half-way between their voxels each of them has a quarter of the weight.
    labels = (
        torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).repeat_interleave(2, 0).repeat_interleave(2, 1)[..., None]
    )
    finer = torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64))
    resampled = resample_labels(labels, EYE, finer, [7, 7, 1])[..., 0]
    assert not bool((resampled == 0).any())
    assert resampled[:3, :3].unique().tolist() == [1]
    assert resampled[4:, 4:].unique().tolist() == [4]


def test_labels_move_by_their_weight() -> None:
    # Voxel centres at 0, 1, 2, 3 mm; asked for at .25, .75, 1.25, ... mm: the nearer voxel has the weight .75.
    labels = torch.tensor([0, 5, 5, 0], dtype=torch.uint8)[:, None, None]
    shifted = EYE.clone()
    shifted[0, 0], shifted[0, 3] = 0.5, 0.25
    assert resample_labels(labels, EYE, shifted, [6, 1, 1])[:, 0, 0].tolist() == [0, 5, 5, 5, 5, 0]


def test_a_class_wins_with_half_of_the_probability_or_more_and_the_higher_of_two_wins() -> None:
    first, second = torch.tensor([0.4, 0.5, 0.6, 0.6]), torch.tensor([0.4, 0.1, 0.5, 0.9])
    scores = {1: first[:, None, None], 7: second[:, None, None]}
    labels = resample_classes(scores.__getitem__, [1, 7], EYE, EYE, [4, 1, 1])
    assert labels[:, 0, 0].tolist() == [0, 1, 1, 7]


@settings(max_examples=25)
@given(st.integers(0, 2**20), st.integers(1, 6))
def test_fused_labels_are_within_the_organ_set(seed: int, organs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randint(3, 12, (3,), generator=generator).tolist()
    affine = affine_of("LPS", [1.5, 1.5, 4.0], shape)
    on_grid = ToWorkingGrid([2.0, 2.0, 3.0])(scan_of(torch.zeros(shape), affine))
    scores = torch.rand(1 + organs, *on_grid.shape[1:], generator=generator)
    found = restore(on_grid, scores).unique().tolist()
    assert set(found) <= set(range(organs + 1))


def test_absent_classes_cost_nothing_and_slabs_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[list[int]] = []

    def count(scores: Tensor, points: Tensor, **settings: Any) -> Tensor:
        sampled.append(list(points.shape))
        return torch.nn.functional.grid_sample(scores, points, **settings)

    monkeypatch.setattr(resampling, "grid_sample", count)
    shape = [5, 4, 2 * SLICES_PER_SLAB + 1]
    scan = scan_of(torch.zeros(shape), affine_of("RAS", [2.0, 2.0, 1.0], shape))
    on_grid = ToWorkingGrid([2.0, 2.0, 3.0])(scan)
    scores = torch.zeros(14, *on_grid.shape[1:])
    scores[5] = 0.9
    assert restore(on_grid, scores).unique().tolist() == [5]
    # Three slabs of one class each, not of thirteen, and none larger than a slab of the scan.
    assert [size[3] for size in sampled] == [SLICES_PER_SLAB, SLICES_PER_SLAB, 1]


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.floats(-60, 60), st.booleans())
def test_looking_only_around_each_class_gives_the_same_labels_as_looking_everywhere(
    seed: int, degrees: float, at_border: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape, wanted = (torch.randint(2, 14, (3,), generator=generator).tolist() for _ in range(2))
    wanted[2] += SLICES_PER_SLAB
    scores = torch.zeros(3, *shape)
    for index in (1, 2):
        first = [int(torch.randint(n, (1,), generator=generator)) for n in shape]
        first = first if at_border else [max(1, n) for n in first]
        last = [n if at_border else n - 1 for n in shape]
        scores[index][tuple(slice(a, min(a + 4, b)) for a, b in zip(first, last, strict=True))] = 0.8
    scores = (scores + 0.3 * torch.rand(scores.shape, generator=generator)).clamp(max=1.0)
    source = affine_of("RAS", [2.0, 2.0, 3.0], shape)
    target = affine_of("LPI", [1.1, 0.9, 0.7], wanted, degrees)
    around = resample_classes(scores.__getitem__, [1, 2], source, target, wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_reach", lambda *_: [(0, n) for n in wanted])
        everywhere = resample_classes(scores.__getitem__, [1, 2], source, target, wanted)
    assert torch.equal(around, everywhere)


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.0, 25.0]))
def test_a_label_map_is_resampled_around_its_organs_as_it_would_be_everywhere(seed: int, degrees: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape, wanted = (torch.randint(2, 14, (3,), generator=generator).tolist() for _ in range(2))
    wanted[2] += SLICES_PER_SLAB
    labels = torch.zeros(shape, dtype=torch.uint8)
    for index in (3, 1, 255):
        first = [int(torch.randint(n, (1,), generator=generator)) for n in shape]
        labels[tuple(slice(n, n + 4) for n in first)] = index
    source = affine_of("RAS", [2.0, 2.0, 3.0], shape)
    target = affine_of("LPI", [1.0, 1.5, 1.0], wanted, degrees)  # half-way between voxels two classes are equal
    present = torch.unique(labels).tolist()
    expected = resample_classes(lambda index: labels == index, present, source, target, wanted, threshold=0.0)
    assert torch.equal(resample_labels(labels, source, target, wanted), expected)


def test_a_small_organ_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[int] = []

    def count(scores: Tensor, points: Tensor, **settings: Any) -> Tensor:
        sampled.append(points[..., 0].numel())
        return torch.nn.functional.grid_sample(scores, points, **settings)

    monkeypatch.setattr(resampling, "grid_sample", count)
    scores = torch.zeros(40, 40, 40)
    scores[20, 10, 30] = 0.9
    finer = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64))
    labels = resample_classes(lambda _: scores, [3], EYE, finer, [80, 80, 80])
    assert torch.nonzero(labels == 3).tolist() == [[40, 20, 60]]
    # Voxels 19 to 21 along each axis are 38 to 42 of the finer grid.
    assert sampled == [5**3]


def test_a_scan_of_a_single_slice_is_a_scan() -> None:
    affine = affine_of("LPS", [2.0, 2.0, 5.0], [9, 7, 1])
    labels = torch.zeros(9, 7, 1, dtype=torch.uint8)
    labels[2:7, 1:5] = 1
    on_grid = ToWorkingGrid([2.0, 2.0, 5.0])(scan_of(labels, affine))
    there = resample_labels(labels, affine, on_grid.affine, on_grid.shape[1:])
    assert torch.equal(restore(on_grid, one_hot(there, 1)).as_tensor()[0], labels)


def test_nothing_found_is_a_label_map_of_background() -> None:
    on_grid = ToWorkingGrid([2.0, 2.0, 3.0])(scan_of(torch.zeros(5, 4, 3), affine_of("RAS", [1.0] * 3, [5, 4, 3])))
    assert restore(on_grid, torch.zeros(3, *on_grid.shape[1:])).unique().tolist() == [0]


def test_the_dictionary_form_touches_only_its_own_keys() -> None:
    scan = scan_of(torch.zeros(5, 4, 3), affine_of("LPS", [1.0] * 3, [5, 4, 3]))
    data = {"image": scan, "image_meta": "kept", "label": "path", "case": "x"}
    resampled = ToWorkingGridd("image", [2.0, 2.0, 3.0])(data)
    assert {key: value for key, value in resampled.items() if key != "image"} == {
        "image_meta": "kept",
        "label": "path",
        "case": "x",
    }
    assert resampled["image"].shape != scan.shape and data["image"] is scan


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_the_orientation_comes_from_the_affine_whatever_the_metadata_call_it(space: str) -> None:
    # MONAI Deploy hands over right-anterior-superior affines under the name LPS.
    scan = scan_of(torch.arange(60.0).reshape(5, 4, 3), affine_of("RAS", [2.0, 2.0, 3.0], [5, 4, 3]))
    scan.meta["space"] = space
    assert torch.equal(ToWorkingGrid([2.0, 2.0, 3.0])(scan).as_tensor(), scan.as_tensor())


@pytest.mark.parametrize("spacing", [[1.5, 1.5], [1.5, 0.0, 3.0], [1.5, -1.5, 3.0], [1.5, float("nan"), 3.0]])
def test_a_spacing_that_is_none_is_refused_with_an_example(spacing: list[float]) -> None:
    with pytest.raises(ValueError, match=r"three positive numbers in mm .* \[1.5, 1.5, 3.0\]"):
        ToWorkingGrid(spacing)


def scores_of(*organs: list[float]) -> torch.Tensor:
    """Scores of organs along one row of voxels, as the two-stage predictor gives them: [class, x, 1, 1]."""
    maps = torch.tensor(organs)
    return torch.cat([1 - maps.amax(dim=0, keepdim=True), maps])[..., None, None]


def test_the_example_of_the_docstring() -> None:
    kept = without_other_parts(scores_of([0.9, 0.8, 0.1, 0.7]), [1], 0.5, False)
    assert kept[1].flatten().tolist() == pytest.approx([0.9, 0.8, 0.1, 0.0])


def test_an_organ_that_is_not_named_and_the_given_scores_stay_as_they_are() -> None:
    scores = scores_of([0.9, 0.8, 0.1, 0.7], [0.0, 0.0, 0.6, 0.0])
    before = scores.clone()
    assert without_other_parts(scores, [2], 0.5, False) is scores
    without_other_parts(scores, [1], 0.5, False)
    assert torch.equal(scores, before)


def test_a_part_ends_where_another_organ_wins() -> None:
    """The first organ reaches the threshold everywhere, but in the middle the second one has the higher score."""
    kept = without_other_parts(scores_of([0.6, 0.6, 0.6, 0.6], [0.0, 0.9, 0.0, 0.0]), [1, 2], 0.5, False)
    assert kept[1].flatten().tolist() == pytest.approx([0.0, 0.6, 0.6, 0.6])


def test_with_the_background_among_the_classes_parts_are_those_of_the_highest_score() -> None:
    """Softmax scores: at voxel 1 the background wins with .5 of three classes."""
    scores = torch.tensor([[0.1, 0.5, 0.1, 0.2], [0.5, 0.2, 0.6, 0.6], [0.4, 0.3, 0.3, 0.2]])[..., None, None]
    kept = without_other_parts(scores, [1], 0.0, True)
    assert kept[1].flatten().tolist() == pytest.approx([0.0, 0.2, 0.6, 0.6])


def test_voxels_that_share_a_corner_belong_together() -> None:
    scores = torch.zeros(2, 2, 2, 2)
    scores[1, 0, 0, 0] = scores[1, 1, 1, 1] = 0.9
    assert without_other_parts(scores, [1], 0.5, False) is scores


def test_the_label_map_has_the_largest_part_alone() -> None:
    """The whole transform, on a scan whose grid is the working grid: nothing else of the map changes."""
    scores = torch.zeros(3, 8, 4, 4)
    scores[1, :3], scores[1, 6], scores[2, 4] = 0.9, 0.9, 0.9
    meta = {"original_affine": torch.eye(4).numpy(), "spatial_shape": [8, 4, 4]}
    image = MetaTensor(torch.zeros(1, 8, 4, 4), affine=torch.eye(4), meta=meta)
    keep_largest = ScoresToScanLabelsd("pred", organs=["liver", "aorta"], one_piece=["liver", "heart"])
    labels = keep_largest({"image": image, "pred": scores})["pred"]
    assert labels[0, :, 0, 0].tolist() == [1, 1, 1, 0, 2, 0, 0, 0]
    everything = ScoresToScanLabelsd("pred")({"image": image, "pred": scores})["pred"]
    assert everything[0, :, 0, 0].tolist() == [1, 1, 1, 0, 2, 0, 1, 0]


def test_no_part_of_organs_that_are_not_wanted_goes_to_one_that_is() -> None:
    """Class 1 has the scores of two such organs, at voxels 0 to 2 and 6; the aorta, less sure, reaches over it."""
    scores = torch.zeros(3, 8, 1, 1)
    scores[1, :3], scores[1, 6], scores[2, 4:8] = 0.9, 0.9, 0.6
    meta = {"original_affine": torch.eye(4).numpy(), "spatial_shape": [8, 1, 1]}
    image = MetaTensor(torch.zeros(1, 8, 1, 1), affine=torch.eye(4), meta=meta)
    to_labels = ScoresToScanLabelsd("pred", organs=["liver", "aorta"], one_piece=["liver", "aorta"]).limited_to([2])
    assert to_labels({"image": image, "pred": scores})["pred"].flatten().tolist() == [1, 1, 1, 0, 2, 2, 1, 0]
