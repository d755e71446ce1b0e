"""Four textured patches, a digit on each, and a query that names a texture: which digit lies on it?"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

NUM_PATCHES = 4
SIDE = 20  # pixels, of a patch


def textures() -> Tensor:
    """Four textures of equal mean and contrast, ``[4, 512, 512]``: noise, fine, coarse, and in two directions."""
    noise = torch.randn(4, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    windows = [(1, 1), (5, 5), (1, 9), (9, 1)]
    smooth = [F.avg_pool2d(x, size, 1, (size[0] // 2, size[1] // 2)) for x, size in zip(noise, windows, strict=True)]
    return torch.cat([(image - image.mean()) / image.std() for image in smooth])


def mosaics(num_images: int, digits: slice, seed: int) -> TensorDataset:
    """Patches ``[N, 4, 20, 20]``, queries ``[N]``, the place of the queried texture ``[N]`` and its digit ``[N]``.

    Digits keep their 8 x 8 pixels, so that 64 tokens of a patch of 20 x 20 are too few to read them.
    """
    random = torch.Generator().manual_seed(seed)
    bunch, surfaces = load_digits(), textures()
    glyphs, names = torch.tensor(bunch.images[digits]).float() / 16, torch.tensor(bunch.target[digits])
    order = torch.rand(num_images, NUM_PATCHES, generator=random).argsort(1)
    chosen = torch.randint(len(glyphs), (num_images, NUM_PATCHES), generator=random)
    corners = torch.randint(512 - SIDE, (num_images, NUM_PATCHES, 2), generator=random)
    shifts = torch.randint(5, 8, (num_images, NUM_PATCHES, 2), generator=random)
    patches = torch.empty(num_images, NUM_PATCHES, SIDE, SIDE)
    for image in range(num_images):
        for place in range(NUM_PATCHES):
            (top, left), (y, x) = corners[image, place].tolist(), shifts[image, place].tolist()
            patch = 0.15 * surfaces[order[image, place], top : top + SIDE, left : left + SIDE].clone()
            patch[y : y + 8, x : x + 8] += glyphs[chosen[image, place]]
            patches[image, place] = patch
    relevant = torch.randint(NUM_PATCHES, (num_images,), generator=random)
    rows = torch.arange(num_images)
    return TensorDataset(patches, order[rows, relevant], relevant, names[chosen[rows, relevant]])
