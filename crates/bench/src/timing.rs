//! How long a call takes: the median of many, within a budget of time.
//!
//! 1. Warm up: call for a tenth of the budget, so that code, data and page tables are where later calls find them,
//!    and the clock of the core is up.
//! 2. A sample is as many calls as last 50 us, so that the clock (read in about 25 ns) costs at most 0.1%.
//! 3. Sample until the budget is spent, at least three times. The median counts: other work on the machine only ever
//!    makes a call slower, and the median forgets it as long as it disturbs less than half of the samples. Minimum
//!    and maximum are kept to show how quiet the machine was.

use std::time::{Duration, Instant};

/// What a sample lasts at least.
const SAMPLE: Duration = Duration::from_micros(50);

/// However long a call takes.
const MIN_SAMPLES: usize = 3;

/// Seconds per call, over all samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The fastest sample.
    pub min: f64,
    /// The one in the middle (the mean of the two in the middle, of an even number).
    pub median: f64,
    /// The slowest sample.
    pub max: f64,
    /// How many there were.
    pub samples: usize,
}

/// Times `call` for about `budget`. The call must keep its own result alive ([`std::hint::black_box`], or a buffer
/// that outlives it).
///
/// # Errors
/// The first error of `call`.
pub fn time<E>(budget: Duration, mut call: impl FnMut() -> Result<(), E>) -> Result<Timing, E> {
    let start = Instant::now();
    let mut fastest = f64::INFINITY;
    while fastest.is_infinite() || start.elapsed() < budget / 10 {
        let before = Instant::now();
        call()?;
        fastest = fastest.min(before.elapsed().as_secs_f64());
    }
    // Saturates where the call is too short for the clock to see: then a sample is a million calls.
    let calls = (SAMPLE.as_secs_f64() / fastest).ceil().clamp(1.0, 1e6) as usize;

    let mut samples = Vec::new();
    let start = Instant::now();
    while samples.len() < MIN_SAMPLES || start.elapsed() < budget {
        let before = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        samples.push(before.elapsed().as_secs_f64() / calls as f64);
    }
    Ok(Timing::of(samples))
}

impl Timing {
    /// What samples, at least one, say.
    pub(crate) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        Timing {
            min: samples[0],
            median: (samples[(n - 1) / 2] + samples[n / 2]) / 2.0,
            max: samples[n - 1],
            samples: n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_timed() {
        let timing = time(Duration::from_millis(60), || -> Result<(), ()> {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })
        .unwrap();
        assert!(timing.min >= 0.005 && timing.min <= timing.median && timing.median <= timing.max);
        assert!((3..=12).contains(&timing.samples), "{timing:?}");
    }

    #[test]
    fn a_call_longer_than_the_budget_is_sampled_three_times_after_one_for_warmth() {
        let mut calls = 0;
        let timing = time(Duration::ZERO, || -> Result<(), ()> {
            calls += 1;
            std::thread::sleep(Duration::from_micros(100));
            Ok(())
        })
        .unwrap();
        assert_eq!((timing.samples, calls), (3, 4));
    }

    #[test]
    fn an_error_ends_it() {
        assert_eq!(time(Duration::from_secs(9), || Err("no")), Err("no"));
    }
}
