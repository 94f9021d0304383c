//! The naive oracle: what every operator should give, in plain loops and f64.
//!
//! Slow, boring, and nothing shared with what it judges but the types of shapes and tensors. Beside each value
//! comes what its tolerance is made of: the sum of the absolute values of the terms behind it, and how many
//! roundings an f32 implementation may pass any of them through (see [`crate::compare`]).

mod activation;
mod add;
mod batch_norm;
mod concat;
mod conv2d;
mod conv_transpose2d;
mod linear;
mod loss;
mod pad;
mod pool;
mod softmax;
mod upsample;

pub use activation::{activation, activation_at, activation_roundings, erfc};
pub use add::add;
pub use batch_norm::{TrainedBatchNorm, batch_norm, batch_norm_train};
pub use concat::concat;
pub use conv_transpose2d::conv_transpose2d;
pub use conv2d::{conv2d, conv2d_at};
pub use linear::linear;
pub use loss::{bce_with_logits, cross_entropy, mse};
pub use pad::{crop, pad};
pub use pool::{avg_pool2d, global_avg_pool, max_pool2d};
pub use softmax::softmax;
pub use upsample::upsample;

use tilewise_kernels::Shape4;

/// What an operator should give.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The extents of the result.
    pub shape: Shape4,
    /// The result, NCHW.
    pub value: Vec<f64>,
    /// Per element, the sum of the absolute values of the terms that were added up.
    pub magnitude: Vec<f64>,
    /// Roundings that an f32 implementation may pass a term through, in whatever order it adds. 0: no arithmetic,
    /// or a single correctly rounded operation.
    pub roundings: usize,
}

impl Answer {
    /// `f([n, c, h, w])` gives value and magnitude of one element.
    fn sums(shape: Shape4, roundings: usize, mut f: impl FnMut([usize; 4]) -> (f64, f64)) -> Self {
        let (value, magnitude) = positions(shape).map(&mut f).unzip();
        Answer { shape, value, magnitude, roundings }
    }

    /// `f([n, c, h, w])` gives one element, which f32 arithmetic must hit exactly (after one rounding).
    fn exact(shape: Shape4, mut f: impl FnMut([usize; 4]) -> f64) -> Self {
        Self::sums(shape, 0, |at| {
            let v = f(at);
            (v, v.abs())
        })
    }

    /// A single number.
    fn scalar(value: f64, magnitude: f64, roundings: usize) -> Self {
        let shape = Shape4::new(1, 1, 1, 1);
        Answer { shape, value: vec![value], magnitude: vec![magnitude], roundings }
    }
}

/// All `[n, c, h, w]` of a shape, in memory order.
fn positions(s: Shape4) -> impl Iterator<Item = [usize; 4]> {
    (0..s.n).flat_map(move |n| {
        (0..s.c).flat_map(move |c| (0..s.h).flat_map(move |h| (0..s.w).map(move |w| [n, c, h, w])))
    })
}

/// The element of `data` at `[n, c, h, w]`, in f64.
fn at(data: &[f32], s: Shape4, [n, c, h, w]: [usize; 4]) -> f64 {
    f64::from(data[((n * s.c + c) * s.h + h) * s.w + w])
}
