"""Compact bilinear pooling as a graph of gathers and matrix products.

ONNX has the operator DFT, but TensorRT has not, nor a dependable scatter that adds; and ONNX
Runtime's DFT is slower on a CPU than the matrices below, and loses accuracy at lengths that are no
power of two. So the exported graph computes the same features otherwise:

- the count sketch by gathers: channels that share a bin are summed first;
- the Fourier transform of length a * b by two small ones with a twiddle between them, each a
  matrix product; of a real input, half of the first dimension holds everything.

Source: Cooley and Tukey 1965, doi:10.1090/S0025-5718-1965-0178586-1, for composite lengths.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.extras.bilinear import BilinearClassifier, CompactBilinear, signed_sqrt

__all__ = ["MatrixBilinear", "without_fft"]


def without_fft(backbone: nn.Module) -> nn.Module:
    """Put the pooling below in the place of one that uses the fast Fourier transform.

    Args:
        backbone: changed in place; one without bilinear pooling stays as it is.
    """
    if isinstance(backbone, BilinearClassifier):
        backbone.add_module("global_pool", MatrixBilinear(backbone.global_pool))
    return backbone


class MatrixBilinear(nn.Module):
    """The features of a `CompactBilinear`, without Fourier or scatter operators. Inference only.

    Args:
        pooling: whose hashes and signs are taken over.
    """

    def __init__(self, pooling: CompactBilinear) -> None:
        super().__init__()
        self.sketch_1 = GatherSketch(pooling.hash_1, pooling.sign_1, pooling.dim)
        self.sketch_2 = GatherSketch(pooling.hash_2, pooling.sign_2, pooling.dim)
        self.fourier = MatrixFourier(pooling.dim)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim), of unit length."""
        positions = maps.flatten(2).transpose(1, 2)
        real_1, imag_1 = self.fourier.transform(self.sketch_1(positions))
        real_2, imag_2 = self.fourier.transform(self.sketch_2(positions))
        real = (real_1 * real_2 - imag_1 * imag_2).mean(1)
        imag = (real_1 * imag_2 + imag_1 * real_2).mean(1)
        return F.normalize(signed_sqrt(self.fourier.inverse(real, imag)), dim=1)


class GatherSketch(nn.Module):
    """(N, P, C) -> (N, P, dim): a count sketch without scattering.

    Args:
        hashes: (C,) the bin of each channel.
        signs: (C,) its sign.
        dim: number of bins.
    """

    signs: Tensor
    shared: Tensor
    bins: Tensor

    def __init__(self, hashes: Tensor, signs: Tensor, dim: int) -> None:
        super().__init__()
        zero = len(hashes)  # a channel of zeros stands behind the real ones
        members: list[list[int]] = [[] for _ in range(dim)]
        for channel, place in enumerate(hashes.tolist()):
            members[place].append(channel)
        crowded = [channels for channels in members if len(channels) > 1]
        shared = torch.full((max(map(len, crowded), default=1), max(len(crowded), 1)), zero)
        bins = torch.tensor([channels[0] if channels else zero for channels in members])
        for number, channels in enumerate(crowded):
            shared[: len(channels), number] = torch.tensor(channels)
            bins[hashes[channels[0]]] = zero + 1 + number  # the sums stand behind the zero
        self.register_buffer("signs", signs.clone())
        self.register_buffer("shared", shared)
        self.register_buffer("bins", bins)

    def forward(self, positions: Tensor) -> Tensor:
        """As the class says."""
        signed = F.pad(positions * self.signs, (0, 1))
        sums = signed.index_select(2, self.shared[0])
        for more in self.shared[1:]:
            sums = sums + signed.index_select(2, more)
        return torch.cat([signed, sums], 2).index_select(2, self.bins)


class MatrixFourier(nn.Module):
    """The discrete Fourier transform of real vectors, and back, as matrix products.

    Entry b * i + j of a vector and entry k + a * l of its transform are addressed as (i, j) and
    (k, l), with i, k < a and j, l < b. Of k, 0 to a // 2 are kept: the rest are their conjugates.

    Args:
        dim: length; a * b with a and b as near to one another as they can be.
    """

    rows: Tensor
    twiddle_real: Tensor
    twiddle_imag: Tensor
    columns: Tensor
    columns_back: Tensor
    rows_back: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        a = next(n for n in range(math.isqrt(dim), 0, -1) if dim % n == 0)
        b = dim // a
        self.shape, self.kept = (a, b), a // 2 + 1
        rows, columns = _roots(self.kept, a, a), _roots(b, b, b)
        twiddle = _roots(self.kept, b, dim)
        weight = torch.full((self.kept, 1), 2.0, dtype=torch.float64)  # for the conjugate, too
        weight[0] = 1
        if a % 2 == 0:
            weight[-1] = 1
        back = weight * rows / dim
        tables = {
            "rows": torch.cat([rows.real, rows.imag]),
            "twiddle_real": twiddle.real,
            "twiddle_imag": twiddle.imag,
            "columns": _as_real(columns),
            "columns_back": _as_real(columns.conj()),
            "rows_back": torch.cat([back.real, back.imag]).T,
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float().contiguous())

    def transform(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(..., dim) -> real and imaginary part, each (..., a // 2 + 1, b)."""
        joined = self.rows @ torch.unflatten(values, -1, self.shape)
        real, imag = joined[..., : self.kept, :], joined[..., self.kept :, :]
        turned_real = real * self.twiddle_real - imag * self.twiddle_imag
        turned_imag = real * self.twiddle_imag + imag * self.twiddle_real
        return self._halves(torch.cat([turned_real, turned_imag], -1) @ self.columns)

    def inverse(self, real: Tensor, imag: Tensor) -> Tensor:
        """What `transform` returned -> (..., dim)."""
        real, imag = self._halves(torch.cat([real, imag], -1) @ self.columns_back)
        turned_real = real * self.twiddle_real + imag * self.twiddle_imag
        turned_imag = imag * self.twiddle_real - real * self.twiddle_imag
        return (self.rows_back @ torch.cat([turned_real, turned_imag], -2)).flatten(-2)

    def _halves(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.shape[1]
        return joined[..., :columns], joined[..., columns:]


def _roots(rows: int, columns: int, period: int) -> Tensor:
    """(rows, columns) powers of a root of unity: exp(-2 pi i * row * column / period)."""
    powers = torch.outer(torch.arange(rows), torch.arange(columns)) % period
    return torch.exp(-2j * math.pi * powers.double() / period)


def _as_real(matrix: Tensor) -> Tensor:
    """A complex matrix as a real one that acts on [real, imaginary] rows from the right."""
    real, imag = matrix.real, matrix.imag
    return torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])
