"""Contours hold a region pixel by pixel; structures of other programs as voxels, by three readers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from ct_series import AXIAL, LPS
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from scipy.ndimage import gaussian_filter
from structure_sets import (
    ORGANS,
    SERIES,
    SHAPE,
    Drawn,
    circle,
    dice,
    label_map,
    read_by_plastimatch,
    write_contours,
    write_series,
)

from scripts.dicom.contours import Points, contours_of, filled
from scripts.dicom.series_folder import stack_in
from scripts.dicom.structure_reader import Structures, find_structure_files
from scripts.outputs.dicom_segmentation import write_segmentation
from scripts.outputs.structure_set import write_structure_set

CENTRE = (LPS @ AXIAL @ [28.3, 21.6, 11.4, 1.0])[:3]
BOTTOM = -60.0
"""Height of the first slice, mm; the others follow in steps of 5."""
VOXEL_ML = 2 * 3 * 5 / 1000


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "ct")


def places() -> NDArray[np.float64]:
    """Positions of the voxels, mm (LPS)."""
    index = np.stack([*np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), np.ones(SHAPE)], axis=-1)
    return (index @ (LPS @ AXIAL).T)[..., :3]


def sphere(radius: float) -> NDArray[np.bool_]:
    return np.linalg.norm(places() - CENTRE, axis=-1) < radius


def sphere_contours(radius: float, heights: Any) -> Drawn:
    """Circles of a sphere where it meets planes."""
    return [
        ("CLOSED_PLANAR", circle(np.sqrt(radius**2 - (z - CENTRE[2]) ** 2), [*CENTRE[:2], z]))
        for z in heights
        if abs(z - CENTRE[2]) < radius
    ]


def on_slice(*drawn: tuple[str, float]) -> Drawn:
    """Circles about one centre on one slice: kind and radius."""
    return [(kind, circle(radius, [*CENTRE[:2], BOTTOM + 50])) for kind, radius in drawn]


def regions(path: Path, series: Path) -> dict[str, NDArray[np.bool_]]:
    structures, stack = Structures(str(path)), stack_in(str(series))
    return {name: structures.region(number, stack) for number, name in structures.names.items()}


def area(region: NDArray[np.bool_]) -> float:
    """Of the one slice that has voxels, mm2."""
    assert region.any(axis=(0, 1)).sum() == 1
    return float(region.sum()) * 6


@pytest.mark.parametrize("name", SERIES)
def test_what_the_bundle_wrote_is_read_voxel_by_voxel(name: str, tmp_path: Path) -> None:
    series, labels = write_series(tmp_path / "ct", SERIES[name]), label_map()
    for write in (write_structure_set, write_segmentation):
        write(labels, SERIES[name], str(series), ORGANS, tmp_path / "out.dcm")
        found = regions(tmp_path / "out.dcm", series)
        for index, organ in enumerate(ORGANS, start=1):
            np.testing.assert_array_equal(found[organ.replace("_", " ")], labels == index)


def test_contours_on_the_slices_have_the_volume_of_the_sphere_and_of_plastimatch(series: Path, tmp_path: Path) -> None:
    drawn = {f"ball {r}": sphere_contours(r, BOTTOM + 5.0 * np.arange(24)) for r in (35.0, 12.0)}
    path = write_contours(tmp_path / "rs" / "rs.dcm", series, drawn)
    found = regions(path, series)
    for r in (35.0, 12.0):
        assert dice(found[f"ball {r}"], sphere(r)) > 0.995
    if shutil.which("plastimatch"):
        for name, region in read_by_plastimatch(path, series, AXIAL).items():
            assert region.sum() == pytest.approx(found[name].sum(), rel=0.03) and dice(region, found[name]) > 0.97


@pytest.mark.parametrize(("step", "offset"), [(5.0, 2.5), (5.0, 1.3), (10.0, 0.0), (1.0, 0.4)])
def test_contours_between_the_slices_give_the_shape_between_them(
    step: float, offset: float, series: Path, tmp_path: Path
) -> None:
    heights = BOTTOM + offset + step * np.arange(int(115 / step))
    path = write_contours(tmp_path / "rs" / "rs.dcm", series, {"ball": sphere_contours(35.0, heights)})
    found = regions(path, series)["ball"]
    assert dice(found, sphere(35.0)) > 0.96
    assert found.sum() * VOXEL_ML == pytest.approx(4 / 3 * np.pi * 3.5**3, rel=0.06)
    if step == 5.0 and shutil.which("plastimatch"):  # it leaves slices without a contour empty, and joins several
        (other,) = read_by_plastimatch(path, series, AXIAL).values()
        assert found.sum() == pytest.approx(other.sum(), rel=0.06)


def test_a_slice_that_was_left_out_stays_empty(series: Path, tmp_path: Path) -> None:
    drawn = {"cord": [("CLOSED_PLANAR", circle(10, [*CENTRE[:2], BOTTOM + 5.0 * k])) for k in (4, 5, 6, 8, 9, 15)]}
    found = regions(write_contours(tmp_path / "rs" / "rs.dcm", series, drawn), series)["cord"]
    assert list(np.flatnonzero(found.any(axis=(0, 1)))) == [4, 5, 6, 8, 9, 15]


def test_two_planes_are_joined_over_one_slice_and_stay_apart_over_more(series: Path, tmp_path: Path) -> None:
    pairs = {"near": (4, 5.67), "every second": (4, 6), "far": (4, 12), "far and between": (4.3, 12)}
    drawn = {
        name: [("CLOSED_PLANAR", circle(10, [*CENTRE[:2], BOTTOM + 5.0 * k])) for k in planes]
        for name, planes in pairs.items()
    }
    found = regions(write_contours(tmp_path / "rs" / "rs.dcm", series, drawn), series)
    assert {name: [int(k) for k in np.flatnonzero(found[name].any(axis=(0, 1)))] for name in pairs} == {
        "near": [4, 5, 6],
        "every second": [3, 4, 5, 6],
        "far": [4, 12],
        "far and between": [4, 12],
    }


def test_beside_a_plane_that_is_full_a_slice_is_as_the_nearer_plane(series: Path, tmp_path: Path) -> None:
    planes = ((4.4, 500), (5.4, 10), (6.4, 10))  # slice, radius
    drawn = {"all": [("CLOSED_PLANAR", circle(r, [*CENTRE[:2], BOTTOM + 5.0 * k])) for k, r in planes]}
    found = regions(write_contours(tmp_path / "rs" / "rs.dcm", series, drawn), series)["all"]
    assert found[:, :, 4].all()
    np.testing.assert_array_equal(found[:, :, 5], found[:, :, 6])


def test_a_contour_within_another_is_a_hole_an_island_in_it_is_not_and_a_copy_counts_once(
    series: Path, tmp_path: Path
) -> None:
    plain, exclusive = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
    there, back = circle(30, [*CENTRE[:2], BOTTOM + 50]), circle(15, [*CENTRE[:2], BOTTOM + 50])[::-1]
    keyhole = np.concatenate([there, there[:1], back[-1:], back])
    drawn = {
        "full": on_slice((plain, 30)),
        "hole": on_slice((plain, 15), (plain, 30)),
        "exclusive": on_slice((exclusive, 30), (exclusive, 15)),
        "keyhole": [(plain, keyhole)],
        "island": on_slice((plain, 30), (plain, 15), (plain, 8)),
        "copy": on_slice((plain, 30), (plain, 30)),
        "overlapping": [*on_slice((plain, 20)), (plain, circle(20, [CENTRE[0] + 10, CENTRE[1], BOTTOM + 50]))],
    }
    found = {n: area(r) for n, r in regions(write_contours(tmp_path / "rs" / "a.dcm", series, drawn), series).items()}
    full, hole, island = (np.pi * r**2 for r in (30, 15, 8))
    assert found["full"] == found["copy"] == pytest.approx(full, rel=0.03)
    assert found["hole"] == found["exclusive"] == pytest.approx(full - hole, rel=0.03)
    assert found["keyhole"] == pytest.approx(full - hole, rel=0.03)
    assert found["island"] == pytest.approx(full - hole + island, rel=0.03)
    lens = 2 * 20**2 * np.arccos(10 / 40) - 10 / 2 * np.sqrt(4 * 20**2 - 10**2)
    assert found["overlapping"] == pytest.approx(2 * np.pi * 20**2 - lens, rel=0.03)


def test_marks_and_rois_without_contours_are_empty(series: Path, tmp_path: Path) -> None:
    drawn: dict[str, Drawn] = {"iso": [("POINT", [CENTRE])], "line": [("OPEN_PLANAR", circle(9, CENTRE))], "none": []}
    assert not any(r.any() for r in regions(write_contours(tmp_path / "rs" / "a.dcm", series, drawn), series).values())


def test_contours_across_the_slices_are_refused_with_the_name_of_the_roi(series: Path, tmp_path: Path) -> None:
    standing = circle(20, [0.0, 0.0, 0.0])[:, [0, 2, 1]] + CENTRE
    path = write_contours(tmp_path / "rs" / "a.dcm", series, {"coronal": [("CLOSED_PLANAR", standing)]})
    with pytest.raises(ValueError, match="structure 'coronal' of .*its contours are not parallel to the slices"):
        regions(path, series)


def test_two_structures_of_one_number_are_refused(series: Path, tmp_path: Path) -> None:
    path = write_contours(tmp_path / "rs" / "a.dcm", series, {"a": on_slice(("CLOSED_PLANAR", 9)), "b": []})
    content = pydicom.dcmread(path)
    content.StructureSetROISequence[1].ROINumber = content.StructureSetROISequence[0].ROINumber
    content.save_as(path)
    with pytest.raises(ValueError, match="a.dcm gives one ROINumber to several structures: export it again"):
        Structures(str(path))


def test_a_structure_in_a_file_that_is_cut_off_is_refused_by_name(series: Path, tmp_path: Path) -> None:
    circles = sphere_contours(35.0, BOTTOM + 5.0 * np.arange(24))
    path = write_contours(tmp_path / "rs" / "a.dcm", series, {"ball": circles})
    write_segmentation(label_map(), AXIAL, str(series), ["ball", *"abc"], tmp_path / "rs" / "seg.dcm")
    for name, share in (("a.dcm", 0.7), ("seg.dcm", 0.3), ("seg.dcm", 0.5)):
        content = (path.parent / name).read_bytes()
        (tmp_path / "cut.dcm").write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match="structure 'ball' of .*cut.dcm is not read \\(.*: export it again on"):
            regions(tmp_path / "cut.dcm", series)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_dicom_seg_on_some_slices_in_another_order(kind: str, series: Path, tmp_path: Path) -> None:
    chosen = list(range(17, 3, -1))
    images = sorted(map(pydicom.dcmread, series.iterdir()), key=lambda image: image.InstanceNumber)
    labels = np.where(label_map() == 1, 1, 0) + np.where(label_map() == 2, 2, 0)
    frames = np.ascontiguousarray(labels.transpose(2, 1, 0)[chosen]).astype(np.uint8)
    described = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.AnatomicalStructure, codes.SCT.Organ, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(("Niere li", "Aorta"), start=1)
    ]
    hd.seg.Segmentation(
        [images[k] for k in chosen], frames, kind, described, hd.UID(), 1, hd.UID(), 1, "A", "B", "1", "2"
    ).save_as(tmp_path / "seg.dcm")
    found = regions(tmp_path / "seg.dcm", series)
    wanted = np.isin(np.arange(SHAPE[2]), chosen)
    np.testing.assert_array_equal(found["Niere li"], (labels == 1) & wanted)
    np.testing.assert_array_equal(found["Aorta"], (labels == 2) & wanted)


def test_files_belong_to_a_series_by_its_uid_by_an_image_or_by_the_frame_of_reference_alone(
    series: Path, tmp_path: Path
) -> None:
    other = write_series(tmp_path / "mr", series="1.2.3.5")
    labels = label_map()
    write_structure_set(labels, AXIAL, str(series), ORGANS, tmp_path / "rs" / "own.dcm")
    write_segmentation(labels, AXIAL, str(other), ORGANS, tmp_path / "rs" / "seg_of_other.dcm")
    write_contours(tmp_path / "rs" / "frame.dcm", series, {"a": []}, refer=False)
    write_contours(tmp_path / "rs" / "stranger.dcm", series, {"a": []}, ReferencedFrameOfReferenceSequence=[])
    content = pydicom.dcmread(tmp_path / "rs" / "own.dcm")
    study = content.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].SeriesInstanceUID
    content.save_as(tmp_path / "rs" / "images.dcm")
    files = find_structure_files(str(tmp_path / "rs"))

    def names(folder: Path) -> set[str]:
        return {Path(one.path).stem for one in files if one.is_of(stack_in(str(folder)).headers)}

    assert names(series) == {"own", "images", "frame"}
    assert names(other) == {"seg_of_other", "frame"}
    (alone,) = find_structure_files(str(tmp_path / "rs" / "own.dcm"))
    assert alone.labels == ("organs", "organs found automatically (research only)") and alone.made.startswith("20")


def by_matplotlib(contour: Points, shape: tuple[int, int]) -> Any:
    """Another algorithm: winding numbers of every pixel centre."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    return Outline(contour).contains_points(centres).reshape(shape)


def region_of(*rows: str) -> Any:
    """A drawing as [column, row]."""
    return np.array([[letter == "#" for letter in row] for row in rows]).T


def test_a_pixel_is_outlined_halfway_to_its_neighbours() -> None:
    (contour,) = contours_of(region_of("....", "..#."))
    np.testing.assert_array_equal(contour, [[1.5, 1.0], [2.0, 0.5], [2.5, 1.0], [2.0, 1.5]])


def test_pieces_are_separate_and_a_hole_is_one_contour_with_what_surrounds_it() -> None:
    ring = region_of("#####..", "#...#..", "#.#.#.#", "#...#..", "#####..")
    contours = contours_of(ring)
    assert len(contours) == 3  # the ring, what lies in its hole, and the pixel beside it
    assert sorted(int(by_matplotlib(contour, ring.shape).sum()) for contour in contours) == [1, 1, 16]


@pytest.mark.parametrize("smoothing", [0.0, 0.8, 2.0])
def test_every_pixel_is_found_again_by_two_rasterisers_and_pieces_do_not_overlap(smoothing: float) -> None:
    generator = np.random.default_rng(int(10 * smoothing))
    for _ in range(40):
        shape = tuple(generator.integers(1, 40, 2))
        noise = gaussian_filter(generator.random(shape), smoothing)
        region = noise > np.quantile(noise, generator.random())
        pieces = contours_of(region)
        for rasterise in (filled, by_matplotlib):
            np.testing.assert_array_equal(sum(rasterise(one, shape).astype(int) for one in pieces) + 0 * region, region)


def test_a_contour_beyond_the_slice_is_cut_at_its_edge() -> None:
    assert filled(np.array([[-9.0, -9.0], [1.2, -9.0], [1.2, 9.0], [-9.0, 9.0]]), (4, 3)).sum() == 6


def test_where_a_contour_crosses_itself_an_even_number_is_outside() -> None:
    twice = np.array([[-1.0, -1.0], [5.5, -1.0], [5.5, 5.5], [-1.0, 5.5]] * 2)
    assert not filled(twice, (5, 5)).any()
