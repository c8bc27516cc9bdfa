from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from scripts.runtime import precision
from scripts.runtime.precision import PrecisionInferer, autocast, resolve_precision

CPU = torch.device("cpu")


class Spy(nn.Module):
    """A convolution that notes what it was given."""

    def __init__(self, dimensions: int = 2) -> None:
        super().__init__()
        self.convolution = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(1, 2, 1)
        self.given: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.given.append(inputs)
        result: Tensor = self.convolution(inputs)
        self.inside = result.dtype
        return result


@pytest.mark.parametrize(("amx", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_auto_is_bfloat16_where_the_processor_multiplies_matrices_of_it(
    amx: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AVX-512's bfloat16 instructions alone make training slower than float32: they decide nothing."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_precision(CPU) == expected


def test_auto_asks_the_gpu_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert resolve_precision(torch.device("cuda")) == expected


def test_a_torch_without_the_probe_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert resolve_precision(CPU) == torch.float32


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'half' is unknown: choose one of auto, float32, bfloat16"):
        PrecisionInferer("half")


@pytest.mark.parametrize(("name", "inside"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_the_network_computes_in_the_precision_and_its_result_is_float32(name: str, inside: torch.dtype) -> None:
    network = Spy()
    result = PrecisionInferer(name)(torch.rand(1, 1, 4, 4), network)
    assert network.inside == inside
    assert result.dtype == torch.float32


def test_a_network_that_answers_in_float16_by_itself_is_left_alone() -> None:
    assert PrecisionInferer("bfloat16")(torch.rand(1, 1, 4, 4), torch.Tensor.half).dtype == torch.float16


def test_autocast_of_float32_changes_nothing_inside_another_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, "float32"):
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32


def test_patches_are_laid_out_channels_last_and_volumes_are_not() -> None:
    slices, volumes = Spy(2), Spy(3)
    PrecisionInferer("float32")(torch.rand(2, 1, 4, 4).expand(2, 1, 4, 4), slices)
    PrecisionInferer("float32")(torch.rand(2, 1, 4, 4, 4), volumes)
    assert slices.given[0].is_contiguous(memory_format=torch.channels_last)
    assert volumes.given[0].is_contiguous()


def test_the_network_gets_a_plain_tensor_instead_of_one_with_meta_data() -> None:
    network = Spy()
    PrecisionInferer("float32")(MetaTensor(torch.rand(1, 1, 4, 4)), network)
    assert type(network.given[0]) is torch.Tensor


def test_results_that_are_no_tensor_pass_unchanged() -> None:
    class Twice(nn.Module):
        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return inputs, inputs

    assert len(PrecisionInferer("float32")(torch.rand(1, 1, 2, 2), Twice())) == 2
    assert precision.PRECISIONS[0] == PrecisionInferer().precision
