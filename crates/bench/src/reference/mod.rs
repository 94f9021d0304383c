//! The naive oracle: what every operator should give, in plain loops and f64.
//!
//! Slow, boring, and nothing shared with what it judges but the types of shapes and tensors. Beside each value
//! comes what its tolerance is made of: the sum of the absolute values of the terms behind it, and how many
//! roundings an f32 implementation may pass any of them through (see [`crate::compare`]).
//!
//! Beside each operator stand its gradients, `<operator>_backward...`: given `gy`, the gradient of a loss with respect
//! to the result, that with respect to each operand. They are written rather than added to anything: whoever
//! accumulates allows for one addition more.

mod activation;
mod add;
mod batch_norm;
mod concat;
mod conv2d;
mod conv_transpose2d;
mod linear;
mod loss;
mod optimiser;
mod pad;
mod pool;
mod softmax;
mod upsample;
mod winograd;

pub use activation::{
    activation, activation_at, activation_backward, activation_roundings, derivative_at, erfc,
};
pub use add::{add, add_backward};
pub use batch_norm::{
    BatchNormGradients, TrainedBatchNorm, batch_norm, batch_norm_backward, batch_norm_train,
    batch_norm_train_backward,
};
pub use concat::{concat, concat_backward};
pub use conv_transpose2d::{
    conv_transpose2d, conv_transpose2d_backward_input, conv_transpose2d_backward_weights,
};
pub use conv2d::{
    conv2d, conv2d_at, conv2d_backward_input, conv2d_backward_input_at, conv2d_backward_weights,
    conv2d_backward_weights_at,
};
pub use linear::{linear, linear_backward_input, linear_backward_weights};
pub use loss::{
    bce_with_logits, bce_with_logits_backward, cross_entropy, cross_entropy_backward, dice, dice_backward,
    l1, l1_backward, mse, mse_backward,
};
pub use optimiser::{adam, clip_norm, sgd};
pub use pad::{crop, crop_backward, pad, pad_backward};
pub use pool::{
    avg_pool2d, avg_pool2d_backward, global_avg_pool, global_avg_pool_backward, max_pool2d,
    max_pool2d_backward,
};
pub use softmax::{softmax, softmax_backward};
pub use upsample::{upsample, upsample_backward};
pub use winograd::Winograd;

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

    /// Nothing yet: zeros, to which terms are added.
    fn zeros(shape: Shape4, roundings: usize) -> Self {
        Self::sums(shape, roundings, |_| (0.0, 0.0))
    }

    /// Adds a term to the element at `[n, c, h, w]`.
    fn add(&mut self, to: [usize; 4], term: f64) {
        let i = index(self.shape, to);
        self.value[i] += term;
        self.magnitude[i] += term.abs();
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

/// Where `[n, c, h, w]` lies in memory.
fn index(s: Shape4, [n, c, h, w]: [usize; 4]) -> usize {
    ((n * s.c + c) * s.h + h) * s.w + w
}

/// The element of `data` at `[n, c, h, w]`, in f64.
fn at(data: &[f32], s: Shape4, from: [usize; 4]) -> f64 {
    f64::from(data[index(s, from)])
}

/// The gradient to a bias, `[c, 1, 1, 1]`: whatever is added to a whole channel gets the sum of the channel's
/// gradients.
pub fn bias_backward(output: Shape4, gy: &[f32]) -> Answer {
    let count = output.n * output.h * output.w;
    let mut gb = Answer::zeros(Shape4::new(output.c, 1, 1, 1), count.saturating_sub(1));
    for [n, c, h, w] in positions(output) {
        gb.add([c, 0, 0, 0], at(gy, output, [n, c, h, w]));
    }
    gb
}
