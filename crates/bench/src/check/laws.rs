//! Laws that every operator keeps, on every instruction set, by every algorithm. Beside the comparison with the oracle
//! they say what a tolerance cannot: bit for bit.

use std::sync::OnceLock;

use rayon::ThreadPool;
use tilewise_kernels::{Conv2dAlgo, Cpu, Isa, Tensor, TensorView, TensorViewMut};

use super::{CheckOptions, kernels, ways};
use crate::case::{Case, Inputs};

/// Why a law does not hold: the way, the case, and what was seen.
pub type Broken = String;

/// What lies between and around the images of a view; no kernel would compute it.
const CANARY: f32 = -1.234_567_8e33;

/// Runs `f` for each instruction set and algorithm; its error is given the case to paste back.
fn in_every_way(
    case: &Case,
    f: impl Fn(&Cpu, Option<Conv2dAlgo>, &Inputs) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let inputs = Inputs::generate(case).map_err(|e| e.to_string())?;
    for (isa, algo) in ways(&CheckOptions::default(), &case.problem) {
        let cpu = Cpu::with_isa(isa).map_err(|e| e.to_string())?;
        f(&cpu, algo, &inputs).map_err(|what| format!("{case} on {isa} by {}: {what}", name(algo)))?;
    }
    Ok(())
}

fn name(algo: Option<Conv2dAlgo>) -> &'static str {
    algo.map_or("-", Conv2dAlgo::name)
}

/// 1, 2 and 7 threads give the same bits, in a pool of the caller and by [`Cpu::threads`].
///
/// # Errors
/// The first element that differs.
pub fn threads_do_not_change_bits(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |cpu, algo, inputs| {
        let solve = |cpu: &Cpu| kernels::solve(cpu, &case.problem, inputs, algo).map_err(|e| e.to_string());
        let one = solve(&cpu.threads(1))?;
        for (threads, pool) in pools() {
            let pooled = pool.install(|| solve(cpu))?;
            let limited = solve(&cpu.threads(*threads))?;
            for (one, many) in one.iter().zip(&pooled).chain(one.iter().zip(&limited)) {
                same_bits(one.data(), many.data()).map_err(|what| format!("{threads} threads: {what}"))?;
            }
        }
        Ok(())
    })
}

/// Pools of 2 and 7 threads, made once.
fn pools() -> &'static [(usize, ThreadPool)] {
    static POOLS: OnceLock<Vec<(usize, ThreadPool)>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().ok().map(|pool| (n, pool));
        [2, 7].into_iter().filter_map(pool).collect()
    })
}

/// Reading from views with gaps between the images and writing into one gives what the easy call gives; the gaps of the
/// output, and what lies before and behind it, are left alone.
///
/// # Errors
/// The first element that differs, or the place that was overwritten.
pub fn nothing_outside_the_output_is_written(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |cpu, algo, inputs| {
        let expected = kernels::solve(cpu, &case.problem, inputs, algo).map_err(|e| e.to_string())?;
        // The gaps of the inputs hold NaN: one that is read shows.
        let spread: Vec<Spread> =
            inputs.tensors.iter().map(|t| Spread::of(t, f32::NAN)).take(case.problem.data_inputs()).collect();
        let views = spread.iter().map(Spread::view).collect::<Result<Vec<_>, _>>()?;
        let mut y = Spread::of(&expected[0], CANARY);
        y.clear();
        kernels::solve_into(cpu, &case.problem, &views, inputs, algo, 0.0, y.view_mut()?)
            .map_err(|e| e.to_string())?;
        if let Some(at) = y.first_touched_gap() {
            return Err(format!("element {at} was overwritten, which is outside {}", expected[0].shape()));
        }
        let got = y.view()?.to_tensor().map_err(|e| e.to_string())?;
        same_bits(expected[0].data(), got.data())
    })
}

/// What a plan finds in its scratch does not matter: not even NaN.
///
/// # Errors
/// The first element that differs.
pub fn scratch_garbage_does_not_matter(case: &Case) -> Result<(), Broken> {
    in_every_way(case, |cpu, algo, inputs| {
        let count = case.problem.data_inputs();
        let views: Vec<TensorView> = inputs.tensors.iter().take(count).map(Tensor::view).collect();
        let solve = |garbage: f32| {
            let mut y = Tensor::zeros(case.problem.outputs()[0].shape)?;
            kernels::solve_into(cpu, &case.problem, &views, inputs, algo, garbage, y.view_mut())?;
            Ok(y)
        };
        let refused = |e: tilewise_kernels::Error| e.to_string();
        same_bits(solve(0.0).map_err(refused)?.data(), solve(f32::NAN).map_err(refused)?.data())
    })
}

/// Two results, bit for bit (so that NaN equals NaN).
///
/// # Errors
/// The first element that differs.
pub fn same_bits(a: &[f32], b: &[f32]) -> Result<(), Broken> {
    if a.len() != b.len() {
        return Err(format!("{} elements, not {}", b.len(), a.len()));
    }
    match a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(i) => Err(format!("element {i} is {:e}, not {:e}", b[i], a[i])),
    }
}

/// Every instruction set of this machine, as a device.
pub fn devices() -> impl Iterator<Item = Cpu> {
    Isa::available().filter_map(|isa| Cpu::with_isa(isa).ok())
}

/// A tensor in a larger buffer, with gaps before, between and behind its images.
struct Spread {
    buffer: Vec<f32>,
    shape: tilewise_kernels::Shape4,
    gap: f32,
}

impl Spread {
    const BEFORE: usize = 5;
    const BETWEEN: usize = 7;

    fn of(t: &Tensor, gap: f32) -> Self {
        let shape = t.shape();
        let mut buffer = vec![gap; Self::BEFORE];
        for n in 0..shape.n {
            buffer.extend_from_slice(t.view().image(n));
            buffer.extend([gap; Self::BETWEEN]);
        }
        Spread { buffer, shape, gap }
    }

    fn image_len(&self) -> usize {
        self.shape.c * self.shape.h * self.shape.w
    }

    fn view(&self) -> Result<TensorView<'_>, Broken> {
        let stride = self.image_len() + Self::BETWEEN;
        TensorView::new(&self.buffer[Self::BEFORE..], self.shape, stride).map_err(|e| e.to_string())
    }

    fn view_mut(&mut self) -> Result<TensorViewMut<'_>, Broken> {
        let stride = self.image_len() + Self::BETWEEN;
        TensorViewMut::new(&mut self.buffer[Self::BEFORE..], self.shape, stride).map_err(|e| e.to_string())
    }

    /// Whether element `i` of the buffer lies in a gap.
    fn is_gap(&self, i: usize) -> bool {
        i < Self::BEFORE || (i - Self::BEFORE) % (self.image_len() + Self::BETWEEN) >= self.image_len()
    }

    /// Forgets the images: NaN, so that an element that is never written shows.
    fn clear(&mut self) {
        for i in 0..self.buffer.len() {
            if !self.is_gap(i) {
                self.buffer[i] = f32::NAN;
            }
        }
    }

    fn first_touched_gap(&self) -> Option<usize> {
        (0..self.buffer.len()).find(|&i| self.is_gap(i) && self.buffer[i].to_bits() != self.gap.to_bits())
    }
}
