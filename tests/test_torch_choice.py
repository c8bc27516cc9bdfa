"""Which torch a machine gets: the one that is there, or the build to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.torch_choice import (
    CPU_BUILDS,
    OLDEST_TORCH,
    InstalledTorch,
    is_reusable,
    pinned_torch,
    torch_attempts,
    with_torch,
)

ROOT = Path(__file__).resolve().parents[1]
PIN = "torch==9.8.7"


def arguments_of_attempts(system: str, has_gpu: bool, override: str = "") -> list[list[str]]:
    return [attempt.pip_arguments for attempt in torch_attempts(PIN, system, has_gpu, override)]


def test_with_an_nvidia_gpu_the_default_index_is_used() -> None:
    assert arguments_of_attempts("Linux", has_gpu=True) == [[PIN]]


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_without_a_gpu_the_cpu_build_comes_first_and_the_default_index_is_the_way_out(system: str) -> None:
    cpu, anywhere = arguments_of_attempts(system, has_gpu=False)
    assert cpu == [PIN, "--index-url", CPU_BUILDS, "--timeout", "10", "--retries", "0"]
    assert anywhere == [PIN]


def test_macos_has_only_one_build() -> None:
    assert arguments_of_attempts("Darwin", has_gpu=False) == [[PIN]]


@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_users_own_choice_wins_over_everything(has_gpu: bool) -> None:
    assert arguments_of_attempts("Linux", has_gpu, override="/wheels/torch.whl") == [["/wheels/torch.whl"]]


def test_the_download_of_several_gigabytes_is_announced() -> None:
    assert "3 GB" in torch_attempts(PIN, "Linux", False, "")[-1].announcement
    assert "3 GB" in torch_attempts(PIN, "Linux", True, "")[-1].announcement


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.7.1", False), ("2.8.0", True), ("2.13.0+cpu", True), ("2.10.0a0+git1", True), ("1.13.1", False), ("?", False)],
)
def test_a_torch_already_there_is_used_when_recent_enough(version: str, expected: bool) -> None:
    assert OLDEST_TORCH == (2, 8)  # the versions above are chosen around it
    assert is_reusable(InstalledTorch(version, ["/site-packages"])) is expected


def test_no_torch_is_not_reusable() -> None:
    assert not is_reusable(None)


# The pin


def test_the_pin_is_found_among_look_alikes_and_without_its_comment() -> None:
    assert pinned_torch("# torch==1.0\npytorch-ignite==1\ntorchvision==1\ntorch==2.13.0  # why\n") == "torch==2.13.0"


def test_requirements_without_a_pin_say_what_to_put_back() -> None:
    with pytest.raises(ValueError, match="torch==VERSION"):
        pinned_torch("monai==1.6.1\n")


def test_the_torch_in_place_replaces_the_pin_and_nothing_else() -> None:
    requirements = "torch==2.13.0\npytorch-metric-learning==2.9.0\n"
    expected = "torch==2.9.1+cu130\npytorch-metric-learning==2.9.0\n"
    assert with_torch(requirements, InstalledTorch("2.9.1+cu130", [])) == expected


def test_every_requirement_of_the_project_is_pinned_for_each_python() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or "==" in line.split(";")[0], f"{name}: {line}"
