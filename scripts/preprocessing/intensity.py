"""From Hounsfield units to network input: the soft-tissue window, and its random variation at training time."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_window(window: Sequence[float]) -> tuple[float, float]:
    """Return (lower, upper) in HU, or raise ValueError when they are not in order."""
    if len(window) != 2 or not window[0] < window[1]:
        raise ValueError(f"window {list(window)} is not [lower, upper] in HU, for example [-175, 275] for soft tissue.")
    return float(window[0]), float(window[1])


def soft_tissue_window(hu: Tensor, lower: float, upper: float) -> Tensor:
    """Map [lower, upper] HU linearly to [0, 1] and clip: of -175 to 275 HU (public code), 50 becomes .5, 1000 1."""
    # In place on the difference: a whole volume is held twice at most.
    return (hu - lower).div_(upper - lower).clamp_(0.0, 1.0)


class RandomIntensity:
    """Random contrast, brightness and noise of windowed patches (our choice; the paper does not say).

    A patch is scaled by a factor from [1 - contrast, 1 + contrast] around .5. The largest shift of brightness and the
    largest standard deviation of added Gaussian noise are in units of the window width.
    """

    def __init__(self, contrast: float = 0.15, brightness: float = 0.08, noise: float = 0.04) -> None:
        self.contrast, self.brightness, self.noise = contrast, brightness, noise

    def __call__(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Vary patches [batch, ...] in [0, 1]; one draw per element of the batch."""
        count = (patches.shape[0],) + (1,) * (patches.dim() - 1)

        def draw(spread: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1).to(patches.device) * spread

        varied = (patches - 0.5).mul_(1 + draw(self.contrast)).add_(0.5).add_(draw(self.brightness))
        if self.noise > 0:
            # The noise itself is drawn where the patches are; only its strength comes from the seeded generator.
            strength = torch.rand(count, generator=generator).to(patches.device) * self.noise
            seed = int(torch.randint(2**62, (1,), generator=generator))
            local = torch.Generator(device=patches.device).manual_seed(seed)
            noise = torch.randn(patches.shape, generator=local, device=patches.device)
            varied.add_(noise.mul_(strength))
        return varied.clamp_(0.0, 1.0)
