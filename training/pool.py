"""A pool of earlier images, from which a critic is shown some again (Shrivastava et al. 2017, arXiv:1612.07828)."""

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """`forward(images (N,C,H,W)) -> as many`: each new image, or one from before in whose place it stays.

    It is a module so that a checkpoint holds it; it has no parameters.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self._exchanged(image) for image in images.detach()])

    def get_extra_state(self) -> list[Tensor]:
        return self.images

    def set_extra_state(self, state: list[Tensor]) -> None:
        self.images = list(state)

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image)
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        shown, self.images[place] = self.images[place].to(image), image
        return shown
