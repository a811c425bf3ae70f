"""Energy of an image by spatial frequency."""

import numpy as np


def band_power(image: np.ndarray, valid: np.ndarray, edges: tuple[float, ...], side: int = 64) -> np.ndarray:
    """Mean spectral power of a grey image (h,w) in frequency bands.

    Args:
        valid: (h,w); only windows of `side` pixels without a hole count, on a lattice of half their side.
        edges: band edges in cycles per pixel, increasing; at most 0.5 is meaningful.

    Returns:
        (len(edges) - 1,) mean power of the Hann-windowed, mean-free windows; NaN without any window.
    """
    taper = np.hanning(side)
    taper = np.outer(taper, taper)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    rings = [(frequency >= low) & (frequency < high) for low, high in zip(edges, edges[1:])]
    powers = []
    for row in range(0, image.shape[0] - side + 1, side // 2):
        for col in range(0, image.shape[1] - side + 1, side // 2):
            part = np.s_[row : row + side, col : col + side]
            if valid[part].all():
                window = image[part].astype(np.float64)
                power = np.abs(np.fft.fft2((window - window.mean()) * taper)) ** 2
                powers.append([power[ring].mean() for ring in rings])
    return np.mean(powers, 0) if powers else np.full(len(edges) - 1, np.nan)


def radial_power(image: np.ndarray) -> np.ndarray:
    """Variance of a square grey image (n,n) by rings of spatial frequency.

    Returns:
        (n // 2 + 1,): entry k is the variance at k cycles over the image's side, round(hypot(ky, kx)) = k, the
        mean left out; together with what lies in the corners beyond the last ring they sum to the variance.
    """
    n = image.shape[0]
    spectrum = np.abs(np.fft.fft2(image - image.mean()) / image.size) ** 2
    cycles = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(cycles[:, None], cycles)).astype(int)
    return np.bincount(ring.ravel(), spectrum.ravel())[: n // 2 + 1]
