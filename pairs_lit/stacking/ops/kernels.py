"""Numba kernels of the fused CPU operations, forward and backward.

There are two operations: a small 3×3 convolution with dropout, 2×2 max-pool and ReLU; and batch norm with 2×2 max-pool
and ReLU.

- Convolution: a matrix product is fast if all three of its sides are long. With 1 to 16 channels two sides are short,
  and writing the column matrix and the maps before the pool takes longer than the arithmetic. These kernels compute
  two rows at a time, which stay in the cache.
- Batch norm: these kernels read each map from memory once instead of five times.

Arrays are C-contiguous (B, C, H, W, N), with the images last; the B stacks of maps are processed one after the other.
NaN and infinity are passed on, so that a round that diverges is noticed.

A kernel and the functions that it calls are in one file, because Numba recompiles a cached kernel only if the kernel's
own file changes.
"""

import numpy as np

from pairs_lit.stacking.ops.compilation import Array, compile_inline, compile_kernel


@compile_inline
def _add_convolved_rows(first: Array, second: Array, x: Array, kernel: Array, y: int) -> None:
    """Add the rows y and y + 1 of the convolution of one map to two rows (columns · N)."""
    w, n = x.shape[1] * x.shape[2], x.shape[2]
    a, b, c = kernel[0, 0], kernel[0, 1], kernel[0, 2]
    d, e, f = kernel[1, 0], kernel[1, 1], kernel[1, 2]
    g, h, i = kernel[2, 0], kernel[2, 1], kernel[2, 2]
    p0, q0, r0, s0 = x[y].reshape(w), x[y + 1].reshape(w), x[y + 2].reshape(w), x[y + 3].reshape(w)
    p1, q1, r1, s1 = p0[n:], q0[n:], r0[n:], s0[n:]
    p2, q2, r2, s2 = p1[n:], q1[n:], r1[n:], s1[n:]
    for k in range(first.size):
        first[k] += (
            a * p0[k] + b * p1[k] + c * p2[k] + d * q0[k] + e * q1[k] + f * q2[k] + g * r0[k] + h * r1[k] + i * r2[k]
        )
        second[k] += (
            a * q0[k] + b * q1[k] + c * q2[k] + d * r0[k] + e * r1[k] + f * r2[k] + g * s0[k] + h * s1[k] + i * s2[k]
        )


@compile_inline
def _pool_rows(first: Array, second: Array, pooled: Array, winners: Array) -> None:
    """Pool two rows 2×2 with ReLU, and store which of the four values was the largest, or −1 where ReLU gives 0."""
    columns, n = pooled.shape
    for x in range(columns):
        start, middle, end = 2 * x * n, (2 * x + 1) * n, (2 * x + 2) * n
        a, b, c, d = first[start:middle], first[middle:end], second[start:middle], second[middle:end]
        best, where = pooled[x], winners[x]
        for k in range(n):
            top, left = max(a[k], b[k]), np.int32(b[k] > a[k])
            low, right = max(c[k], d[k]), np.int32(2) + np.int32(d[k] > c[k])
            value = max(top, low)
            winner = right if low > top else left
            value = value if a[k] + b[k] + c[k] + d[k] == a[k] + b[k] + c[k] + d[k] else a[k] + b[k] + c[k] + d[k]
            where[k] = np.int32(-1) if value <= 0 else winner
            best[k] = 0 if value <= 0 else value


@compile_inline
def _apply_dropout_to_row(row: Array, word: Array, p: float, number: int, step: int, n: int) -> None:
    """Apply dropout to a row (columns · N), whose activation of column x and image k has index number + x + k · step.

    The hash is that of :func:`pairs_lit.stacking.ops.dropout.compute_keep_mask`, computed with unsigned integers.
    """
    first, second = np.uint32(word[0]), np.uint32(word[1])
    limit, kept = np.uint32(p * 2**31), row.dtype.type(1 - p)
    for x in range(row.size // n):
        part = row[x * n : (x + 1) * n]
        for k in range(n):
            bits = np.uint32(np.uint32(number + x + k * step) ^ first)
            bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
            bits = np.uint32(bits ^ second)
            bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B))
            bits = np.uint32(bits ^ (bits >> np.uint32(16))) & np.uint32(0x7FFFFFFF)
            part[k] *= (bits >= limit) / kept


@compile_inline
def _compute_pooled_map(
    x: Array, kernels: Array, bias: float, words: Array, p: float, out: int, outputs: int, pooled: Array, winners: Array
) -> None:
    """Compute the pooled output map with index ``out`` of one stack, which has ``outputs`` output maps."""
    height, width, n = pooled.shape
    full_height, full_width = x.shape[1] - 2, x.shape[2] - 2
    rows = np.empty((2, 2 * width * n), x.dtype)
    for y in range(height):
        rows[:] = bias
        for channel in range(x.shape[0]):
            _add_convolved_rows(rows[0], rows[1], x[channel], kernels[channel], 2 * y)
        if p > 0:
            for row in range(2):
                number = (out * full_height + 2 * y + row) * full_width
                _apply_dropout_to_row(rows[row], words, p, number, outputs * full_height * full_width, n)
        _pool_rows(rows[0], rows[1], pooled[y], winners[y])


@compile_kernel
def convolve_pool(x: Array, weight: Array, bias: Array, words: Array, p: Array, pooled: Array, winners: Array) -> None:
    """Apply a 3×3 convolution, dropout, a 2×2 max-pool and ReLU.

    Args:
        x: Maps (B, C, H, W, N).
        weight: Kernels (B, O, C, 3, 3).
        bias: Biases (B, O).
        words: (B, 2) int32, from which the dropout masks are computed.
        p: The probability of dropping an activation, (B,) float64.
        pooled: Output: the pooled maps (B, O, (H − 2) // 2, (W − 2) // 2, N).
        winners: Output: which of the four values was the largest, or −1 where the result is 0; int32, shaped as pooled.
    """
    b, o = bias.shape
    for item in range(b * o):
        r, out = item // o, item % o
        _compute_pooled_map(x[r], weight[r, out], bias[r, out], words[r], p[r], out, o, pooled[r, out], winners[r, out])


@compile_inline
def _scatter_gradient(grad: Array, winners: Array, scattered: Array, border: int) -> None:
    """Write the gradient of a pooled map to the positions of the maxima, inside a border of zeros."""
    height, width, n = grad.shape
    if border > 0:
        scattered[:] = 0
    for y in range(height):
        for x in range(width):
            g, where = grad[y, x], winners[y, x]
            for corner in range(4):
                target = scattered[border + 2 * y + corner // 2, border + 2 * x + corner % 2]
                for k in range(n):
                    target[k] = g[k] if where[k] == corner else 0


@compile_inline
def _compute_kernel_gradient_row(x: Array, scattered: Array, border: int, ky: int, gradient: Array) -> None:
    """Compute row ky of the gradient (4, 3, 3) of four kernels from one input map and four scattered gradients."""
    h, w, n = scattered.shape[1], scattered.shape[2], scattered.shape[3]
    long, full, wide = (w - 2 * border) * n, w * n, x.shape[1] * n
    a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = x.dtype.type(0)
    for y in range(h - 2 * border):
        ga = scattered[0, y + border].reshape(full)[border * n :]
        gb = scattered[1, y + border].reshape(full)[border * n :]
        gc = scattered[2, y + border].reshape(full)[border * n :]
        gd = scattered[3, y + border].reshape(full)[border * n :]
        p = x[y + ky].reshape(wide)
        q = p[n:]
        r = q[n:]
        for k in range(long):
            a0 += ga[k] * p[k]
            a1 += ga[k] * q[k]
            a2 += ga[k] * r[k]
            b0 += gb[k] * p[k]
            b1 += gb[k] * q[k]
            b2 += gb[k] * r[k]
            c0 += gc[k] * p[k]
            c1 += gc[k] * q[k]
            c2 += gc[k] * r[k]
            d0 += gd[k] * p[k]
            d1 += gd[k] * q[k]
            d2 += gd[k] * r[k]
    gradient[0, ky, 0], gradient[0, ky, 1], gradient[0, ky, 2] = a0, a1, a2
    gradient[1, ky, 0], gradient[1, ky, 1], gradient[1, ky, 2] = b0, b1, b2
    gradient[2, ky, 0], gradient[2, ky, 1], gradient[2, ky, 2] = c0, c1, c2
    gradient[3, ky, 0], gradient[3, ky, 1], gradient[3, ky, 2] = d0, d1, d2


@compile_inline
def _compute_kernel_gradient(x: Array, scattered: Array, border: int, gradient: Array) -> None:
    """Compute the gradient (4, C, 3, 3) of the kernels of four output maps."""
    for channel in range(x.shape[0]):
        for ky in range(3):
            _compute_kernel_gradient_row(x[channel], scattered, border, ky, gradient[:, channel])


@compile_inline
def _compute_weight_gradients(x: Array, grad: Array, winners: Array, kernels: Array, biases: Array) -> None:
    """Compute the gradients of one stack's kernels and biases, for four output maps at a time.

    The last block of four overlaps the one before if the number of output maps is not a multiple of four.
    """
    o, height, width, n = grad.shape
    scattered = np.empty((4, 2 * height, 2 * width, n), x.dtype)
    for group in range((o + 3) // 4):
        first = min(4 * group, o - 4)
        for out in range(4):
            _scatter_gradient(grad[first + out], winners[first + out], scattered[out], 0)
            biases[first + out] = scattered[out].sum()
        _compute_kernel_gradient(x, scattered, 0, kernels[first : first + 4])


@compile_inline
def _add_map_gradient_row(rows: Array, g: Array, kernels: Array, ky: int) -> None:
    """Add the contribution of one row g of a scattered gradient, through kernel row ky, to rows of four input maps.

    ``rows`` is (4, columns · N).
    """
    n = (g.size - rows.shape[1]) // 2
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    a0, a1, a2 = kernels[0, ky, 2], kernels[0, ky, 1], kernels[0, ky, 0]
    b0, b1, b2 = kernels[1, ky, 2], kernels[1, ky, 1], kernels[1, ky, 0]
    c0, c1, c2 = kernels[2, ky, 2], kernels[2, ky, 1], kernels[2, ky, 0]
    d0, d1, d2 = kernels[3, ky, 2], kernels[3, ky, 1], kernels[3, ky, 0]
    p, q, r = g, g[n:], g[2 * n :]
    for k in range(a.size):
        a[k] += a0 * p[k] + a1 * q[k] + a2 * r[k]
        b[k] += b0 * p[k] + b1 * q[k] + b2 * r[k]
        c[k] += c0 * p[k] + c1 * q[k] + c2 * r[k]
        d[k] += d0 * p[k] + d1 * q[k] + d2 * r[k]


@compile_inline
def _compute_map_gradient(scattered: Array, weight: Array, maps: Array) -> None:
    """Compute the gradient of four input maps (4, H, W, N)."""
    _, h, w, n = maps.shape
    o, full = len(scattered), scattered.shape[2] * n
    rows = np.empty((4, w * n), maps.dtype)
    for y in range(h):
        rows[:] = 0
        for out in range(o):
            for ky in range(max(0, y - h + 3), min(3, y + 1)):
                _add_map_gradient_row(rows, scattered[out, y - ky + 2].reshape(full), weight[out], ky)
        for channel in range(4):
            maps[channel, y] = rows[channel].reshape(w, n)


@compile_inline
def _compute_all_gradients(
    x: Array, weight: Array, grad: Array, winners: Array, maps: Array, kernels: Array, biases: Array
) -> None:
    """Compute the gradients of one stack's maps, kernels and biases."""
    o = len(weight)
    c, h, w, n = x.shape
    scattered = np.empty((o, h + 2, w + 2, n), x.dtype)
    for out in range(o):
        _scatter_gradient(grad[out], winners[out], scattered[out], 2)
        biases[out] = scattered[out].sum()
    for group in range((o + 3) // 4):
        first = min(4 * group, o - 4)
        _compute_kernel_gradient(x, scattered[first : first + 4], 2, kernels[first : first + 4])
    for group in range((c + 3) // 4):
        first = min(4 * group, c - 4)
        _compute_map_gradient(scattered, weight[:, first : first + 4], maps[first : first + 4])


@compile_kernel
def compute_weight_gradients(x: Array, grad: Array, winners: Array, kernels: Array, biases: Array) -> None:
    """Compute the gradients of :func:`convolve_pool` with respect to its kernels and biases, but not its maps.

    Args:
        x: Maps (B, C, H, W, N).
        grad: Gradient of the pooled maps.
        winners: Positions of the maxima, from :func:`convolve_pool`.
        kernels: Output: gradient of the kernels (B, O, C, 3, 3), with O at least 4.
        biases: Output: gradient of the biases (B, O).
    """
    for r in range(len(x)):
        _compute_weight_gradients(x[r], grad[r], winners[r], kernels[r], biases[r])


@compile_kernel
def compute_all_gradients(
    x: Array, weight: Array, grad: Array, winners: Array, maps: Array, kernels: Array, biases: Array
) -> None:
    """Compute all gradients of :func:`convolve_pool`.

    Args:
        x: Maps (B, C, H, W, N), with C at least 4.
        weight: Kernels (B, O, C, 3, 3), with O at least 4.
        grad: Gradient of the pooled maps.
        winners: Positions of the maxima, from :func:`convolve_pool`.
        maps: Output: gradient of the maps (B, C, H, W, N).
        kernels: Output: gradient of the kernels (B, O, C, 3, 3).
        biases: Output: gradient of the biases (B, O).
    """
    for r in range(len(x)):
        _compute_all_gradients(x[r], weight[r], grad[r], winners[r], maps[r], kernels[r], biases[r])


@compile_inline
def _compute_moments(x: Array) -> tuple[float, float]:
    """Return the mean and the biased variance (divided by the count) of one map."""
    h, w, n = x.shape
    total = squares = 0.0
    for y in range(h):
        total += x[y].sum()
    mean = x.dtype.type(total / x.size)
    for y in range(h):
        row, part = x[y].reshape(w * n), x.dtype.type(0)
        for k in range(w * n):
            part += (row[k] - mean) * (row[k] - mean)
        squares += part
    return mean, squares / x.size


@compile_inline
def _scale_and_pool_map(x: Array, scale: float, shift: float, pooled: Array, winners: Array) -> None:
    """Scale and shift one map, then apply the 2×2 max-pool and ReLU."""
    height, width, n = pooled.shape
    rows = np.empty((2, 2 * width * n), x.dtype)
    for y in range(height):
        for row in range(2):
            source, target = x[2 * y + row].reshape(x.shape[1] * n), rows[row]
            for k in range(target.size):
                target[k] = source[k] * scale + shift
        _pool_rows(rows[0], rows[1], pooled[y], winners[y])


@compile_inline
def _normalise_and_pool_map(x: Array, moments: Array, affine: Array, eps: float, pooled: Array, winners: Array) -> None:
    """Normalise one map by the moments, then apply the 2×2 max-pool and ReLU."""
    scale = affine[0] / np.sqrt(moments[1] + eps)
    _scale_and_pool_map(x, x.dtype.type(scale), x.dtype.type(affine[1] - moments[0] * scale), pooled, winners)


@compile_kernel
def measure_normalise_pool(x: Array, moments: Array, affine: Array, eps: Array, pooled: Array, winners: Array) -> None:
    """Apply batch norm by each map's own moments, a 2×2 max-pool and ReLU.

    Args:
        x: Maps (B, H, W, N).
        moments: Output: mean and biased variance (divided by the count) of each map, (B, 2) float64.
        affine: Weight and bias of each map, (B, 2) float64.
        eps: Constant added to the variance, an array without dimensions.
        pooled: Output: the pooled maps (B, H // 2, W // 2, N).
        winners: Output: which of the four values was the largest, or −1 where the result is 0; int32, shaped as pooled.
    """
    for item in range(len(x)):
        moments[item, 0], moments[item, 1] = _compute_moments(x[item])
        _normalise_and_pool_map(x[item], moments[item], affine[item], eps.item(), pooled[item], winners[item])


@compile_kernel
def normalise_pool(x: Array, moments: Array, affine: Array, eps: Array, pooled: Array, winners: Array) -> None:
    """Apply batch norm by given moments, a 2×2 max-pool and ReLU.

    The arguments are those of :func:`measure_normalise_pool`, but ``moments`` is an input.
    """
    for item in range(len(x)):
        _normalise_and_pool_map(x[item], moments[item], affine[item], eps.item(), pooled[item], winners[item])


@compile_inline
def _compute_normalisation_gradient(
    x: Array, moments: Array, weight: float, eps: float, grad: Array, winners: Array, maps: Array, affine: Array
) -> None:
    """Compute the gradients of one map that was normalised by its own moments, and of its weight and bias."""
    h, w, n = x.shape
    deviation = np.sqrt(moments[1] + eps)
    if grad.shape[0] * grad.shape[1] * 4 < h * w:
        maps[:] = 0
    _scatter_gradient(grad, winners, maps, 0)
    mean, total, product = x.dtype.type(moments[0]), 0.0, 0.0
    for y in range(h):
        g, row, sums, products = maps[y].reshape(w * n), x[y].reshape(w * n), x.dtype.type(0), x.dtype.type(0)
        for k in range(w * n):
            sums += g[k]
            products += g[k] * (row[k] - mean)
        total, product = total + sums, product + products
    affine[0], affine[1] = product / deviation, total
    scale, even = x.dtype.type(weight / deviation), x.dtype.type(total / x.size)
    steep = x.dtype.type(product / (x.size * deviation * deviation))
    for y in range(h):
        g, row = maps[y].reshape(w * n), x[y].reshape(w * n)
        for k in range(w * n):
            g[k] = scale * (g[k] - even - steep * (row[k] - mean))


@compile_kernel
def compute_normalisation_gradients(
    x: Array, moments: Array, weight: Array, eps: Array, grad: Array, winners: Array, maps: Array, affine: Array
) -> None:
    """Compute the gradients of :func:`measure_normalise_pool`.

    Args:
        x: Maps (B, H, W, N).
        moments: Mean and variance of each map, from :func:`measure_normalise_pool`.
        weight: Weight of each map, (B,) float64.
        eps: Constant added to the variance, an array without dimensions.
        grad: Gradient of the pooled maps.
        winners: Positions of the maxima, from :func:`measure_normalise_pool`.
        maps: Output: gradient of the maps (B, H, W, N).
        affine: Output: gradients of weight and bias, (B, 2) float64.
    """
    for i in range(len(x)):
        _compute_normalisation_gradient(
            x[i], moments[i], weight[i], eps.item(), grad[i], winners[i], maps[i], affine[i]
        )
