//! Convolution as sums over taps: what convolution and each phase of a transposed convolution have in common.

use crate::shape::{Conv2dShape, ConvTranspose2dShape, LinearShape, Padding};

/// One group's sums: `y[i][j] = sum over channels and taps of x[c][i * step + tap] * w`, zeros outside the input.
///
/// What convolution and each phase of a transposed convolution have in common.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    /// Input channels of a group.
    pub channels: usize,
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Output rows and columns.
    pub output: [usize; 2],
    /// Input rows and columns from one output to the next.
    pub step: [usize; 2],
    /// The taps that meet the input for at least one output.
    pub taps: Vec<Tap>,
}

/// One tap of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    /// Its position in the kernel, row-major.
    pub index: usize,
    /// The input row and column that it reads for output (0, 0).
    pub at: [isize; 2],
}

/// Where output (i, j) of a [`Correlation`] lies in its plane: `origin + i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    /// Elements of a plane of the whole output.
    pub plane: usize,
    pub origin: usize,
    pub row: usize,
    pub column: usize,
}

impl Correlation {
    /// That of a convolution.
    pub fn conv2d(shape: &Conv2dShape) -> Self {
        let (params, input, output) = (shape.params(), shape.input(), shape.output());
        let before = [params.padding.top, params.padding.left];
        Self::new(
            shape.weights().c,
            [input.h, input.w],
            [output.h, output.w],
            params.stride,
            shape.kernel(),
            // A dilated kernel fits into the padded input, which fits an isize.
            |axis, k| Some((k * params.dilation[axis]) as isize - before[axis] as isize),
        )
    }

    /// What each input of a transposed convolution is multiplied with: a convolution of the gradient to its output, for the
    /// gradient to its input, with the same weights.
    pub fn conv_transpose2d_backward(shape: &ConvTranspose2dShape) -> Self {
        let (params, input, output) = (shape.params(), shape.input(), shape.output());
        let before = [params.padding.top, params.padding.left];
        Self::new(
            shape.weights().c,
            [output.h, output.w],
            [input.h, input.w],
            params.stride,
            shape.kernel(),
            |axis, k| Some((k * params.dilation[axis]) as isize - before[axis] as isize),
        )
    }

    /// That of a fully connected layer: each feature is a channel of one pixel.
    pub fn linear(shape: &LinearShape) -> Self {
        Self::pointwise(shape.in_features(), [1, 1])
    }

    /// One tap: each output from the input at its place.
    fn pointwise(channels: usize, plane: [usize; 2]) -> Self {
        Self::new(channels, plane, plane, [1, 1], [1, 1], |_, _| Some(0))
    }

    /// The outputs `phase + stride * (i, j)` of a transposed convolution: each is a sum over those taps whose
    /// distance to it is a multiple of the stride.
    pub fn conv_transpose2d(shape: &ConvTranspose2dShape, phase: [usize; 2]) -> Self {
        let (params, input, output) = (shape.params(), shape.input(), shape.output());
        let before = [params.padding.top, params.padding.left];
        let full = [output.h, output.w];
        let count = |axis: usize| (full[axis] - phase[axis]).div_ceil(params.stride[axis]);
        Self::new(
            shape.input().c / params.groups,
            [input.h, input.w],
            [count(0), count(1)],
            [1, 1],
            shape.kernel(),
            |axis, k| {
                // Output o takes input i through tap k where o + before = i * stride + k * dilation.
                let distance = (phase[axis] + before[axis]) as isize - (k * params.dilation[axis]) as isize;
                let stride = params.stride[axis] as isize;
                (distance % stride == 0).then_some(distance / stride)
            },
        )
    }

    fn new(
        channels: usize,
        input: [usize; 2],
        output: [usize; 2],
        step: [usize; 2],
        kernel: [usize; 2],
        at: impl Fn(usize, usize) -> Option<isize>,
    ) -> Self {
        // A tap that only ever meets padding adds nothing; without it no copy is much larger than input and output.
        let meets = |axis: usize, k: usize| {
            let first = at(axis, k)?;
            let last = first + ((output[axis] - 1) * step[axis]) as isize;
            let (step, end) = (step[axis] as isize, input[axis] as isize);
            // The first position that is not before the input.
            let inside = if first >= 0 { first } else { first.rem_euclid(step) };
            (inside < end && inside <= last).then_some(first)
        };
        let rows: Vec<_> = (0..kernel[0]).filter_map(|k| Some((k, meets(0, k)?))).collect();
        let columns: Vec<_> = (0..kernel[1]).filter_map(|k| Some((k, meets(1, k)?))).collect();
        let tap =
            |&(r, y): &(usize, isize), &(s, x): &(usize, isize)| Tap { index: r * kernel[1] + s, at: [y, x] };
        let taps = rows.iter().flat_map(|row| columns.iter().map(move |column| tap(row, column))).collect();
        Correlation { channels, input, output, step, taps }
    }

    /// Where each product's input lies relative to its output, channel by channel, tap by tap: in planes `plane` apart,
    /// each tap where `at` says.
    pub fn offsets(&self, plane: usize, at: impl Fn(&Tap) -> usize) -> Vec<usize> {
        let taps: Vec<usize> = self.taps.iter().map(at).collect();
        (0..self.channels).flat_map(|c| taps.iter().map(move |&tap| c * plane + tap)).collect()
    }

    /// Products in one sum.
    pub fn depth(&self) -> usize {
        self.channels * self.taps.len()
    }
}

impl Placement {
    /// Outputs of so many rows and columns, side by side.
    pub fn dense([height, width]: [usize; 2]) -> Self {
        Placement { plane: height * width, origin: 0, row: width, column: 1 }
    }

    /// That of a convolution.
    pub fn conv2d(shape: &Conv2dShape) -> Self {
        Placement::dense([shape.output().h, shape.output().w])
    }
}

/// A transposed convolution as convolutions of stride 1.
///
/// With stride 2 the even and the odd outputs are reached by different taps; each of the `stride h * stride w` phases
/// is a correlation of the input with a part of the taps, its outputs written `stride` apart. (Shi et al., "Is the
/// deconvolution layer the same as a convolutional layer?", 2016.)
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    /// Those that at least one tap reaches.
    pub reached: Vec<(Correlation, Placement)>,
    /// Whether some outputs are reached by no tap (the stride exceeds the kernel): they hold the bias alone.
    pub leave_gaps: bool,
}

impl Phases {
    pub fn new(shape: &ConvTranspose2dShape) -> Self {
        let (output, [sh, sw]) = (shape.output(), shape.params().stride);
        let (tops, lefts) = (Self::of_axis(shape, 0), Self::of_axis(shape, 1));
        let phase = |top: usize, left: usize| {
            let placement = Placement {
                plane: output.plane_len(),
                origin: top * output.w + left,
                // A phase of a stride beyond the output has one row (column), and takes no step.
                row: sh.min(output.h) * output.w,
                column: sw.min(output.w),
            };
            (Correlation::conv_transpose2d(shape, [top, left]), placement)
        };
        let reached = tops.iter().flat_map(|&top| lefts.iter().map(move |&left| phase(top, left))).collect();
        Phases { reached, leave_gaps: tops.len() < sh.min(output.h) || lefts.len() < sw.min(output.w) }
    }

    /// The phases of one axis that at least one tap reaches, in order; at most as many as the kernel has taps.
    fn of_axis(shape: &ConvTranspose2dShape, axis: usize) -> Vec<usize> {
        let (params, output) = (shape.params(), shape.output());
        let before = [params.padding.top, params.padding.left][axis];
        let stride = params.stride[axis];
        let extent = [output.h, output.w][axis];
        let phase = |k: usize| {
            // Tap k reaches the outputs o with o + before = k * dilation, modulo the stride.
            let (tap, before) = (k * params.dilation[axis] % stride, before % stride);
            (tap + stride - before) % stride
        };
        let mut phases: Vec<usize> = (0..shape.kernel()[axis]).map(phase).filter(|&p| p < extent).collect();
        phases.sort_unstable();
        phases.dedup();
        phases
    }
}

/// A transposed convolution whose kernel is its stride: each input is spread over outputs of its own, so that all taps are columns
/// of one matrix product. (The up-convolutions of a U-Net.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// Rows and columns of the kernel, and from one input's outputs to the next's.
    pub kernel: [usize; 2],
    /// Columns of the input.
    pub width: usize,
    /// Elements of a plane of the output.
    pub plane: usize,
}

impl Spread {
    /// If it is one: nothing cut off by padding, no outputs but those of the inputs.
    pub fn new(shape: &ConvTranspose2dShape) -> Option<Self> {
        let (params, input, output, kernel) = (shape.params(), shape.input(), shape.output(), shape.kernel());
        let whole = [output.h, output.w] == [input.h * kernel[0], input.w * kernel[1]];
        let alone =
            kernel == params.stride && params.dilation == [1, 1] && params.padding == Padding::default();
        (whole && alone).then_some(Spread { kernel, width: input.w, plane: output.plane_len() })
    }

    /// The product's left side.
    pub fn correlation(shape: &ConvTranspose2dShape) -> Correlation {
        let input = shape.input();
        Correlation::pointwise(input.c / shape.params().groups, [input.h, input.w])
    }

    /// Outputs of an input.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}
