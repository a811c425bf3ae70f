"""Networks whose features measures compare: layers and names of weights as in torchvision, without classifiers."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class AlexNet(nn.Module):
    """Features of AlexNet (Krizhevsky 2014, one tower): `forward(image (N,3,h,w))` gives the maps after its 5 ReLUs.

    Images have 31 rows and columns or more.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU())

    def forward(self, image: Tensor) -> list[Tensor]:
        maps, x = [], image
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


class Vgg16(nn.Module):
    """Features of VGG16 (Simonyan and Zisserman 2015): relu1_2, 2_2, 3_3, 4_3 and 5_3 of images (N,3,h,w).

    Images have 16 rows and columns or more.
    """

    def __init__(self):
        super().__init__()
        layers = []
        for widths in ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)):
            for before, after in pairwise(widths):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor, pool: nn.Module | None = None) -> list[Tensor]:
        """Args:
            pool: what halves the maps; None: the maximum of 2 x 2 pixels.
        """
        maps, x = [], image
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
                x = (pool or layer)(x)
            else:
                x = layer(x)
        return [*maps, x]


class ResNet50(nn.Module):
    """Features of ResNet-50 (He et al. 2016): the maps after layer1 to layer4 of images (N,bands,h,w).

    The stride of a bottleneck is in its 3 x 3 convolution, as in torchvision and timm.
    """

    def __init__(self, bands: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, 3, 1)
        self.layer2 = _layer(256, 128, 4, 2)
        self.layer3 = _layer(512, 256, 6, 2)
        self.layer4 = _layer(1024, 512, 3, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps, x = [], F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class Bottleneck(nn.Module):
    """Three convolutions around a narrow middle, beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = nn.Identity()
        if channels != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False),
                                            nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _layer(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Bottleneck(channels, width, stride),
                         *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))
