//! What Winograd's algorithm adds up instead of the products of a convolution: the sum of the absolute values of its terms.
//!
//! An output of a tile is `A' [sum over channels of (G g G') * (B' d B)] A`. An f32 implementation rounds terms that are
//! larger than the result: a term through the point (k, l) is at most `|A|(|G||g||G|')_kl (|B|'|d||B|)_kl |A|'`, and passes
//! through the roundings of three transforms, of a product and of the sum over the channels. So the error is at most
//! `roundings * 2^-24` times the sum of those (Barabasz, Anderson, Soodhalter and Gregg, Error Analysis and Improving the
//! Accuracy of Winograd Convolution for Deep Neural Networks, 2020, theorem 3.2, with absolute values in the place of norms).
//!
//! The matrices are built from the points, by the definition.
//!
//! With a stride of 2 a term belongs to one of four parts of the sum, of the even or the odd rows and columns of the kernel, each
//! of which has transforms of its own.

use std::borrow::Borrow;

use super::at;
use tilewise_kernels::Conv2dShape;

/// The roundings of the three transforms, the product and the bias: for tiles of up to 6x6, at most 7 in each dimension of a
/// transform, one of them of the constant.
const ROUNDINGS: usize = 3 * 2 * 7 + 2;

/// Winograd's algorithm for kernels of `taps` by `taps`, or as many of every `step`-th row and column; tiles of `m` by `m` outputs.
pub struct Winograd {
    m: usize,
    taps: usize,
    step: usize,
    /// Absolute values: `[point][input]`, `[point][tap]`, `[output][point]`.
    b: Vec<Vec<f64>>,
    g: Vec<Vec<f64>>,
    a: Vec<Vec<f64>>,
}

impl Winograd {
    /// That of these finite points; the last point is infinity.
    pub fn new(points: &[f64], taps: usize, step: usize) -> Self {
        let m = points.len() + 2 - taps;
        // The coefficients of the product of (x - q), in ascending order.
        let product = |left_out: Option<usize>| {
            let mut coefficients = vec![1.0];
            for (_, q) in points.iter().enumerate().filter(|(i, _)| Some(*i) != left_out) {
                let shifted = std::iter::once(0.0).chain(coefficients.iter().copied());
                let scaled = coefficients.iter().map(|c| -q * c).chain([0.0]);
                coefficients = shifted.zip(scaled).map(|(x, q)| x + q).collect();
            }
            coefficients
        };
        let distances = |i: usize| -> f64 {
            let others = points.iter().enumerate().filter(|(j, _)| *j != i);
            others.map(|(_, q)| points[i] - q).product()
        };
        let padded = |mut row: Vec<f64>| {
            row.resize(points.len() + 1, 0.0);
            row
        };
        let mut b: Vec<_> = (0..points.len()).map(|i| padded(product(Some(i)))).collect();
        b.push(padded(product(None)));
        let mut g: Vec<Vec<f64>> = (0..points.len())
            .map(|i| (0..taps).map(|k| points[i].powi(k as i32) / distances(i)).collect())
            .collect();
        g.push((0..taps).map(|k| if k == taps - 1 { 1.0 } else { 0.0 }).collect());
        let a = (0..m)
            .map(|k| {
                let last = if k == m - 1 { 1.0 } else { 0.0 };
                points.iter().map(|p| p.powi(k as i32)).chain([last]).collect()
            })
            .collect();
        let absolute = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            rows.into_iter().map(|row| row.into_iter().map(f64::abs).collect()).collect()
        };
        Winograd { m, taps, step, b: absolute(b), g: absolute(g), a: absolute(a) }
    }

    /// Roundings that a term passes through, in a sum over so many channels.
    pub fn roundings(channels: usize) -> usize {
        channels + ROUNDINGS
    }

    /// The sums of absolute terms of the outputs of a convolution.
    pub fn conv2d(&self, shape: &Conv2dShape, x: &[f32], w: &[f32]) -> Vec<f64> {
        self.tiles(shape.output().dims(), |n, o, tile| self.conv2d_tile(shape, x, w, n, o, tile))
    }

    /// That of one output.
    pub fn conv2d_at(&self, shape: &Conv2dShape, x: &[f32], w: &[f32], [n, o, i, j]: [usize; 4]) -> f64 {
        let m = self.m;
        self.conv2d_tile(shape, x, w, n, o, [i / m, j / m])[i % m * m + j % m]
    }

    fn conv2d_tile(
        &self,
        shape: &Conv2dShape,
        x: &[f32],
        w: &[f32],
        n: usize,
        o: usize,
        tile: [usize; 2],
    ) -> Vec<f64> {
        let (input, k, p) = (shape.input(), shape.weights(), shape.params());
        let first = o / (k.n / p.groups) * k.c;
        let pixel = |c: usize, i: usize, j: usize| {
            let [i, j] = [i + tile[0] * self.m * self.step, j + tile[1] * self.m * self.step];
            let row = i.checked_sub(p.padding.top).filter(|&row| row < input.h);
            let column = j.checked_sub(p.padding.left).filter(|&column| column < input.w);
            row.zip(column).map_or(0.0, |(row, column)| at(x, input, [n, first + c, row, column]).abs())
        };
        self.tile(k.c, [k.h, k.w], pixel, |c, r, s| at(w, k, [o, c, r, s]).abs())
    }

    /// Those of the gradient to the input, with a stride of 1: a convolution of `gy` with the kernels turned around, and inputs for outputs.
    pub fn conv2d_backward_input(&self, shape: &Conv2dShape, w: &[f32], gy: &[f32]) -> Vec<f64> {
        let tile = |n, c, tile| self.conv2d_backward_input_tile(shape, w, gy, n, c, tile);
        self.tiles(shape.input().dims(), tile)
    }

    /// That of one input.
    pub fn conv2d_backward_input_at(
        &self,
        shape: &Conv2dShape,
        w: &[f32],
        gy: &[f32],
        [n, c, i, j]: [usize; 4],
    ) -> f64 {
        let m = self.m;
        self.conv2d_backward_input_tile(shape, w, gy, n, c, [i / m, j / m])[i % m * m + j % m]
    }

    fn conv2d_backward_input_tile(
        &self,
        shape: &Conv2dShape,
        w: &[f32],
        gy: &[f32],
        n: usize,
        c: usize,
        tile: [usize; 2],
    ) -> Vec<f64> {
        let (output, k, p) = (shape.output(), shape.weights(), shape.params());
        let per_group = k.n / p.groups;
        let (first, c) = (c / k.c * per_group, c % k.c);
        let pixel = |o: usize, i: usize, j: usize| {
            // The last tap reads what lies `padding` behind the input, the first that is read a kernel before.
            let row =
                (tile[0] * self.m + i + p.padding.top).checked_sub(k.h - 1).filter(|&row| row < output.h);
            let column = (tile[1] * self.m + j + p.padding.left)
                .checked_sub(k.w - 1)
                .filter(|&column| column < output.w);
            row.zip(column).map_or(0.0, |(row, column)| at(gy, output, [n, first + o, row, column]).abs())
        };
        let turned = |o, r, s| at(w, k, [first + o, c, k.h - 1 - r, k.w - 1 - s]).abs();
        self.tile(per_group, [k.h, k.w], pixel, turned)
    }

    /// Those of the gradient to the weights, with a stride of 1: for each tile a convolution of `x` with `gy`, whose rows and columns
    /// are the taps, and weights the outputs; the sum over all tiles is that over the channels.
    pub fn conv2d_backward_weights(&self, shape: &Conv2dShape, x: &[f32], gy: &[f32]) -> Vec<f64> {
        let (weights, tiles) = (shape.weights(), self.tiles_of_gradient(shape));
        let inputs: Vec<_> = (0..shape.input().c)
            .map(|c| tiles.iter().map(|&tile| self.input_of_gradient(shape, x, c, tile)).collect::<Vec<_>>())
            .collect();
        let mut all = Vec::with_capacity(weights.n * weights.image_len());
        for o in 0..weights.n {
            let gradients: Vec<_> =
                tiles.iter().map(|&tile| self.kernel_of_gradient(shape, gy, o, tile)).collect();
            let first = o / (weights.n / shape.params().groups) * weights.c;
            for inputs in &inputs[first..first + weights.c] {
                all.extend(self.products(inputs.iter().zip(&gradients)));
            }
        }
        all
    }

    /// That of one weight.
    pub fn conv2d_backward_weights_at(
        &self,
        shape: &Conv2dShape,
        x: &[f32],
        gy: &[f32],
        [o, c, p, q]: [usize; 4],
    ) -> f64 {
        let (weights, tiles) = (shape.weights(), self.tiles_of_gradient(shape));
        let channel = o / (weights.n / shape.params().groups) * weights.c + c;
        let inputs: Vec<_> =
            tiles.iter().map(|&tile| self.input_of_gradient(shape, x, channel, tile)).collect();
        let gradients: Vec<_> =
            tiles.iter().map(|&tile| self.kernel_of_gradient(shape, gy, o, tile)).collect();
        self.products(inputs.iter().zip(&gradients))[p * self.m + q]
    }

    /// Image, row and column of each tile of the gradient to the output.
    fn tiles_of_gradient(&self, shape: &Conv2dShape) -> Vec<[usize; 3]> {
        let output = shape.output();
        let [rows, columns] = [output.h, output.w].map(|extent| extent.div_ceil(self.taps));
        let tiles = rows * columns;
        (0..output.n * tiles).map(|t| [t / tiles, t % tiles / columns, t % columns]).collect()
    }

    fn input_of_gradient(
        &self,
        shape: &Conv2dShape,
        x: &[f32],
        c: usize,
        [n, row, column]: [usize; 3],
    ) -> Vec<Vec<f64>> {
        let (input, padding) = (shape.input(), shape.params().padding);
        both_sides(&self.b, self.b.len(), |i, j| {
            let row = (row * self.taps + i).checked_sub(padding.top).filter(|&row| row < input.h);
            let column =
                (column * self.taps + j).checked_sub(padding.left).filter(|&column| column < input.w);
            row.zip(column).map_or(0.0, |(row, column)| at(x, input, [n, c, row, column]).abs())
        })
    }

    fn kernel_of_gradient(
        &self,
        shape: &Conv2dShape,
        gy: &[f32],
        o: usize,
        [n, row, column]: [usize; 3],
    ) -> Vec<Vec<f64>> {
        let output = shape.output();
        both_sides(&self.g, self.taps, |r, s| {
            let [row, column] = [row * self.taps + r, column * self.taps + s];
            let inside = row < output.h && column < output.w;
            if inside { at(gy, output, [n, o, row, column]).abs() } else { 0.0 }
        })
    }

    /// The outputs of a sum of products at each point.
    fn products<M: Borrow<Vec<Vec<f64>>>>(&self, terms: impl Iterator<Item = (M, M)>) -> Vec<f64> {
        let points = self.b.len();
        let mut sums = vec![vec![0.0; points]; points];
        for (d, g) in terms {
            for (sums, (d, g)) in sums.iter_mut().zip(d.borrow().iter().zip(g.borrow())) {
                for (sum, (d, g)) in sums.iter_mut().zip(d.iter().zip(g)) {
                    *sum += d * g;
                }
            }
        }
        both_sides(&self.a, points, |i, j| sums[i][j]).concat()
    }

    /// All outputs `[n, c, h, w]`, from those of each tile.
    fn tiles(&self, dims: [usize; 4], tile: impl Fn(usize, usize, [usize; 2]) -> Vec<f64>) -> Vec<f64> {
        let [n, c, h, w] = dims;
        let mut all = vec![0.0; n * c * h * w];
        for plane in 0..n * c {
            for ty in 0..h.div_ceil(self.m) {
                for tx in 0..w.div_ceil(self.m) {
                    for (i, value) in tile(plane / c, plane % c, [ty, tx]).into_iter().enumerate() {
                        let (y, x) = (ty * self.m + i / self.m, tx * self.m + i % self.m);
                        if y < h && x < w {
                            all[(plane * h + y) * w + x] = value;
                        }
                    }
                }
            }
        }
        all
    }

    /// The outputs of a tile, row by row, of a kernel of so many rows and columns.
    fn tile(
        &self,
        channels: usize,
        kernel: [usize; 2],
        pixel: impl Fn(usize, usize, usize) -> f64,
        weight: impl Fn(usize, usize, usize) -> f64,
    ) -> Vec<f64> {
        let (points, step) = (self.b.len(), self.step);
        let parts = (0..channels).flat_map(|c| (0..step * step).map(move |part| (c, part)));
        let terms = parts.map(|(c, part)| {
            let [top, left] = [part / step, part % step];
            let d = both_sides(&self.b, points, |i, j| pixel(c, i * step + top, j * step + left));
            let g = both_sides(&self.g, self.taps, |r, s| {
                let [r, s] = [r * step + top, s * step + left];
                if r < kernel[0] && s < kernel[1] { weight(c, r, s) } else { 0.0 }
            });
            (d, g)
        });
        self.products(terms)
    }
}

/// `m t m'`, for a square of `n` by `n`.
fn both_sides(m: &[Vec<f64>], n: usize, t: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> =
        m.iter().map(|row| (0..n).map(|j| (0..n).map(|i| row[i] * t(i, j)).sum()).collect()).collect();
    rows.iter().map(|row| m.iter().map(|column| (0..n).map(|j| row[j] * column[j]).sum()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewise_kernels::{Conv2dParams, Shape4};

    /// Lavin and Gray's F(2x2, 3x3): every term of an output of ones counts 4 times over in the worst of points.
    #[test]
    fn matrices_are_those_of_the_literature() {
        let f2 = Winograd::new(&[0.0, 1.0, -1.0], 3, 1);
        assert_eq!(
            f2.b,
            [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
        );
        assert_eq!(f2.g, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0]]);
        assert_eq!(f2.a, [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]]);
    }

    /// No output is larger than the sum of the terms behind it.
    #[test]
    fn terms_cover_the_outputs() {
        let (small, large) = (0.5f64.sqrt(), 2f64.sqrt());
        for (points, kernel, taps, step) in [
            (&[0.0, 1.0, -1.0][..], 3, 3, 1),
            (&[0.0, small, -small, large, -large], 3, 3, 1),
            (&[0.0, small, -small, large, -large], 5, 5, 1),
            (&[0.5, -0.5, 1.5, -1.5], 3, 2, 2),
            (&[0.5, -0.5, 1.5, -1.5], 4, 2, 2),
            (&[0.0, small, -small, large, -large], 7, 4, 2),
        ] {
            let algorithm = Winograd::new(points, taps, step);
            let params = Conv2dParams::default().padding(1).stride(step);
            let shape = Conv2dShape::new(Shape4::new(1, 2, 9, 7), 3, [kernel; 2], params).unwrap();
            let x: Vec<f32> = (0..2 * 63).map(|i| (i % 11) as f32 - 5.0).collect();
            let w: Vec<f32> = (0..6 * kernel * kernel).map(|i| (i % 7) as f32 - 3.0).collect();
            let direct = super::super::conv2d(&shape, &x, &w, None);
            let terms = algorithm.conv2d(&shape, &x, &w);
            let most = 60.0 * 5.0 * 3.0 * (2 * kernel * kernel) as f64;
            for (direct, terms) in direct.magnitude.iter().zip(&terms) {
                assert!(*direct <= terms * 1.000_001 && *terms <= most, "{kernel}: {direct} {terms}");
            }
            if step == 1 {
                let gy: Vec<f32> =
                    (0..shape.output().dims().iter().product()).map(|i| (i % 5) as f32 - 2.0).collect();
                let direct = super::super::conv2d_backward_input(&shape, &w, &gy);
                let terms = algorithm.conv2d_backward_input(&shape, &w, &gy);
                let covers = |(direct, terms): (&f64, &f64)| *direct <= terms * 1.000_001;
                assert!(direct.magnitude.iter().zip(&terms).all(covers), "{kernel}");
            }
        }
    }
}
