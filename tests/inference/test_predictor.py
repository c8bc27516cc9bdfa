"""The two-stage predictor: with stages that are known, its result is known."""

from __future__ import annotations

import pytest
import torch
from tiny_predictor import MakePredictor
from tiny_scan import KnownCoarse, coarse_maps_of, two_organs
from torch import Tensor, nn

from development.baselines.coarse_channels import CoarseOnly
from scripts.inference.predictor import class_indices, decode_names, encode_names, limited_to
from scripts.inference.weights import Ensemble
from scripts.queries.attention import AttentionMap

SHAPE = (44, 28, 6)
ROUNDED = 2.5e-4
"""Half of the step between two numbers of float16 below 1: how far rounding moves a score at most."""


class Echo(nn.Module):
    """A segmenter that answers with the attention it is given."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.in_channels = channels  # type: ignore[assignment]

    def forward(self, queries: Tensor) -> Tensor:
        return torch.logit(queries[:, -1:], eps=1e-6)


def known_coarse(size: tuple[int, int] = (22, 14)) -> KnownCoarse:
    """A coarse stage that knows where the two organs are, [organ, x', y', z]."""
    return KnownCoarse(coarse_maps_of(two_organs(), 2, size).permute(1, 2, 3, 0))


def volumes(*shape: int) -> Tensor:
    """Volumes [batch, 1, x, y, z] in HU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 200


@pytest.mark.parametrize("patch_size", [32, 48], ids=["several-windows", "patch-larger-than-slice"])
@pytest.mark.parametrize("map_size", [(44, 28), (22, 14), (15, 10)])
def test_with_a_segmenter_that_echoes_its_attention_the_result_is_the_coarse_map(
    make_predictor: MakePredictor, patch_size: int, map_size: tuple[int, int]
) -> None:
    predictor = make_predictor(coarse=known_coarse(map_size), segmenter=Echo(), patch_size=patch_size)
    volume = volumes(1, 1, *SHAPE)
    scores, coarse = predictor(volume).float(), CoarseOnly(predictor)(volume)
    assert scores.shape == coarse.shape == (1, 3, *SHAPE)
    # Exactly so where an organ is asked for. Elsewhere its probability is 0 and was far below one half.
    asked = scores[:, 1:] > 0
    torch.testing.assert_close(scores[:, 1:][asked], coarse[:, 1:][asked], atol=ROUNDED + 1e-5, rtol=0)
    assert float(coarse[:, 1:][~asked].max()) < 0.31
    sure = (coarse[:, 1:].amax(dim=1) - 0.5).abs() > 1e-3
    assert torch.equal(scores.argmax(dim=1)[sure], coarse.argmax(dim=1)[sure])
    if map_size == SHAPE[:2]:
        assert torch.equal(scores.argmax(dim=1)[0], torch.from_numpy(two_organs()).long())


def test_scores_are_probabilities_of_which_the_background_is_what_the_best_organ_leaves(
    make_predictor: MakePredictor,
) -> None:
    with torch.no_grad():
        scores = make_predictor()(volumes(1, 1, 40, 36, 5))
    assert float(scores.min()) >= 0 and float(scores.max()) <= 1
    torch.testing.assert_close(scores[:, 0], 1 - scores[:, 1:].amax(dim=1))


def test_scores_are_kept_in_half_precision(make_predictor: MakePredictor) -> None:
    """What grows with the number of organs is the scores: 2 bytes a voxel of each."""
    with torch.no_grad():
        assert make_predictor()(volumes(1, 1, *SHAPE)).dtype == torch.float16


def test_a_batch_of_two_volumes_gives_what_each_gives_alone(make_predictor: MakePredictor) -> None:
    predictor, both = make_predictor(), volumes(2, 1, 40, 36, 5)
    with torch.no_grad():
        together = predictor(both)
        alone = torch.cat([predictor(both[:1]), predictor(both[1:])])
    assert torch.equal(together, alone)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("shape", [(20, 50, 4), (50, 20, 4), (9, 7, 3), (33, 35, 1)])
def test_a_volume_smaller_than_a_patch_is_segmented_on_its_own_grid(
    make_predictor: MakePredictor, shape: tuple[int, int, int]
) -> None:
    with torch.no_grad():
        scores = make_predictor()(volumes(1, 1, *shape))
    assert scores.shape == (1, 3, *shape)
    assert bool(scores.isfinite().all()) and float(scores[:, 1:].max()) > 0


def test_where_the_coarse_stage_finds_nothing_everything_is_background(make_predictor: MakePredictor) -> None:
    predictor = make_predictor(coarse=KnownCoarse(torch.zeros(2, 22, 14, 3)))
    scores = predictor(volumes(1, 1, *SHAPE))
    assert float(scores[:, 0].min()) == 1 and float(scores[:, 1:].max()) == 0


@pytest.mark.parametrize("adjacent_slices", [0, 1])
def test_slabs_and_batches_of_any_size_give_the_same_scores(
    make_predictor: MakePredictor, adjacent_slices: int
) -> None:
    coarse = known_coarse()
    whole = make_predictor(coarse=coarse, adjacent_slices=adjacent_slices, batch_size=64)
    parts = make_predictor(coarse=coarse, adjacent_slices=adjacent_slices, batch_size=3)
    parts.slab_values = 1  # one slice at a time
    with torch.no_grad():
        volume = volumes(1, 1, *SHAPE)
        torch.testing.assert_close(parts(volume), whole(volume), atol=2 * ROUNDED + 1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_coarse_probability_may_have_a_share_in_the_result(make_predictor: MakePredictor, share: float) -> None:
    with torch.no_grad():
        volume = volumes(1, 1, *SHAPE)
        fine = make_predictor(coarse=known_coarse())(volume)[:, 1:].float()
        mixed_predictor = make_predictor(coarse=known_coarse(), coarse_weight=share)
        mixed, coarse = mixed_predictor(volume)[:, 1:].float(), CoarseOnly(mixed_predictor)(volume)[:, 1:]
    torch.testing.assert_close(mixed, (1 - share) * fine + share * coarse, atol=2 * ROUNDED + 1e-5, rtol=0)


@pytest.mark.parametrize("passes", [2, 3])
def test_a_further_pass_asks_by_the_mean_of_the_coarse_map_and_the_last_answer(
    make_predictor: MakePredictor, passes: int
) -> None:
    coarse, volume = known_coarse(), volumes(1, 1, *SHAPE)
    with torch.no_grad():
        answer = make_predictor(coarse=coarse)(volume)
        for _ in range(1, passes):
            seen = torch.nn.functional.avg_pool2d(answer[0, 1:].float().permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            answer = make_predictor(coarse=KnownCoarse((coarse.maps + seen) / 2))(volume)
        predictor = make_predictor(coarse=coarse, passes=passes)
        torch.testing.assert_close(predictor(volume), answer, atol=2 * ROUNDED + 1e-5, rtol=0)
        scripted = torch.jit.script(predictor)(volume)
        part = limited_to(predictor, [2])(volume)
    torch.testing.assert_close(scripted, answer, atol=2 * ROUNDED + 1e-5, rtol=0)
    torch.testing.assert_close(part[:, 2], answer[:, 2], atol=2 * ROUNDED + 1e-5, rtol=0)
    torch.testing.assert_close(part[0, 1].float(), CoarseOnly(predictor)(volume)[0, 1], atol=ROUNDED, rtol=0)
    with pytest.raises(ValueError, match=r"passes is 0 \(1 or more\)"):
        make_predictor(passes=0)


@pytest.mark.parametrize("wanted", [[1], [3], [1, 3]])
def test_only_the_organs_that_are_wanted_are_queried_and_get_the_scores_of_all(
    make_predictor: MakePredictor, wanted: list[int]
) -> None:
    organs, volume, planned = ["spleen", "liver", "aorta"], volumes(1, 1, *SHAPE), []
    coarse = known_coarse()
    coarse.maps = torch.cat([coarse.maps, coarse.maps[:1].flip(1)])
    with torch.no_grad():
        whole = make_predictor(organs=organs, coarse=coarse)(volume)[0]
        predictor = limited_to(make_predictor(organs=organs, coarse=coarse), wanted)
        scripted = torch.jit.script(predictor)(volume)[0]
        predictor.planner.register_forward_hook(lambda planner, inputs, queries: planned.append(inputs[0]))
        part = predictor(volume)[0]
    assert torch.equal(part[wanted], whole[wanted])
    torch.testing.assert_close(scripted, part, atol=2 * ROUNDED + 1e-5, rtol=0)
    assert len(planned) == len(wanted)
    others = sorted({1, 2, 3} - set(wanted))
    rival = CoarseOnly(predictor)(volume)[0, others].amax(dim=0)
    torch.testing.assert_close(part[others[0]].float(), rival, atol=ROUNDED, rtol=0)
    assert not part[others[1:]].any()
    torch.testing.assert_close(part[0], 1 - part[1:].amax(dim=0))


def test_a_voxel_that_an_organ_left_out_would_win_does_not_go_to_the_one_that_is_wanted(
    make_predictor: MakePredictor,
) -> None:
    maps = torch.zeros(2, 22, 14, 6)
    maps[0, 4:12], maps[1, 8:16] = 0.7, 0.9  # both reach one half where they overlap
    settings = {"coarse": KnownCoarse(maps), "segmenter": Echo()}
    with torch.no_grad():
        volume = volumes(1, 1, *SHAPE)
        whole = make_predictor(**settings)(volume).argmax(dim=1)
        part = limited_to(make_predictor(**settings), [1])(volume).argmax(dim=1)
    assert 0 < int((whole == 1).sum()) < 8 * 2 * 28 * 6 - 1
    assert torch.equal(part == 1, whole == 1)


def test_every_member_of_an_ensemble_queries_the_organs_that_are_wanted(make_predictor: MakePredictor) -> None:
    ensemble = limited_to(Ensemble(make_predictor(), ["a.pt", "b.pt"]), [2])
    assert [member.wanted for member in ensemble.members] == [[1], [1]]


def test_organs_are_chosen_by_name_and_an_unknown_one_is_answered_with_the_nearest() -> None:
    organs = ["left_parotid", "mandible", "larynx"]
    assert class_indices(organs, ["larynx", "mandible", "larynx"]) == [2, 3]
    assert class_indices(organs, "larynx") == [3]
    for wrong, near in (("mandibel", "mandible"), ("Larynx", "larynx"), ("parotid", "left_parotid")):
        with pytest.raises(ValueError, match=f"'{wrong}' is no organ of this network, give '{near}' or another"):
            class_indices(organs, ["larynx", wrong])
    with pytest.raises(ValueError, match="'' is no organ of this network, give "):
        class_indices(organs, [])


def test_the_same_comes_out_of_torchscript(make_predictor: MakePredictor) -> None:
    predictor = make_predictor(adjacent_slices=1, attention=AttentionMap(True, 0.4, 1))
    scripted = torch.jit.script(predictor)
    with torch.no_grad():
        for shape in ((2, 1, 21, 37, 5), (1, 1, 40, 33, 7)):
            scores = predictor(volumes(*shape))
            torch.testing.assert_close(scripted(volumes(*shape)), scores, atol=2 * ROUNDED + 1e-5, rtol=0)


def test_values_beyond_the_window_change_nothing(make_predictor: MakePredictor) -> None:
    predictor = make_predictor()
    volume = volumes(1, 1, 33, 32, 3)
    with torch.no_grad():
        assert torch.equal(predictor(volume), predictor(volume.clamp(-175, 275)))
        whole_numbers = volume.round()
        assert torch.equal(predictor(whole_numbers.to(torch.int16)), predictor(whole_numbers))


def test_the_state_knows_the_names_of_its_organs(make_predictor: MakePredictor) -> None:
    state = make_predictor(organs=["spleen", "œsophagus"]).state_dict()
    assert decode_names(state["organ_names"]) == ["spleen", "œsophagus"]
    assert decode_names(encode_names(["liver"])) == ["liver"]


@pytest.mark.parametrize("shape", [(1, 8, 8, 8), (1, 2, 8, 8, 8), (8, 8, 8)])
def test_anything_but_volumes_of_one_channel_is_refused(make_predictor: MakePredictor, shape: tuple[int, ...]) -> None:
    predictor = make_predictor()
    for each in (predictor, CoarseOnly(predictor)):
        with pytest.raises(ValueError, match=r"it expects \[batch, 1, x, y, z\] in Hounsfield units"):
            each(torch.zeros(shape))


def test_an_encoder_of_other_channels_is_refused_with_the_number_it_needs(make_predictor: MakePredictor) -> None:
    with pytest.raises(ValueError, match="has 4: 3 of the image and 1 attention. Set in_channels to 4"):
        make_predictor(adjacent_slices=1, segmenter=Echo(channels=2))
