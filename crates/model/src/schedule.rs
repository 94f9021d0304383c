//! Learning rates that change from step to step.

/// A learning rate as a share of its peak, by the number of steps taken.
///
/// With `t` the steps taken before (from 0), `w` those of the warm-up and `T` all of them, the share is
///
/// | while | share of the peak |
/// |---|---|
/// | `t < w` | `(t + 1) / w`: a straight line up to the peak |
/// | constant | `1` |
/// | step | `factor ^ floor((t - w) / every)` |
/// | cosine | `floor + (1 - floor) (1 + cos(π (t - w) / (T - w))) / 2` (Loshchilov and Hutter, 2017) |
///
/// and beyond `T`, a cosine stays at its floor.
///
/// ```
/// use tilewise_model::{Decay, Schedule};
/// let schedule = Schedule { decay: Decay::Cosine { floor: 0.0 }, warmup: 10, steps: 110 };
/// assert_eq!(schedule.share(0), 0.1);
/// assert_eq!(schedule.share(10), 1.0);
/// assert!((schedule.share(60) - 0.5).abs() < 1e-12);
/// assert_eq!(schedule.share(110), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How it falls after the warm-up.
    pub decay: Decay,
    /// Steps of the warm-up.
    pub warmup: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In steps of so many steps of training, each time to this share.
    Step {
        /// Steps of training from one fall to the next.
        every: u64,
        /// What is left after each.
        factor: f64,
    },
    /// Along half a wave of the cosine.
    Cosine {
        /// The share at the end.
        floor: f64,
    },
}

impl Schedule {
    /// The peak all the time.
    pub const fn constant() -> Self {
        Schedule { decay: Decay::Constant, warmup: 0, steps: 0 }
    }

    /// The share of the peak for the step after `taken` ones.
    pub fn share(&self, taken: u64) -> f64 {
        let Some(t) = taken.checked_sub(self.warmup) else {
            return (taken + 1) as f64 / self.warmup as f64;
        };
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { every, factor } => factor.powf((t / every.max(1)) as f64),
            Decay::Cosine { floor } => {
                let left = self.steps.saturating_sub(self.warmup);
                if t >= left {
                    return floor;
                }
                floor + (1.0 - floor) * (1.0 + (std::f64::consts::PI * t as f64 / left as f64).cos()) / 2.0
            }
        }
    }

    /// The learning rate for the step after `taken` ones.
    pub fn lr(&self, peak: f64, taken: u64) -> f32 {
        (peak * self.share(taken)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_where_they_are_due() {
        let schedule = Schedule { decay: Decay::Step { every: 5, factor: 0.1 }, warmup: 2, steps: 20 };
        let shares: Vec<f64> = (0..13).map(|t| schedule.share(t)).collect();
        let expected = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01];
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
    }

    #[test]
    fn a_cosine_falls_all_the_way_to_its_floor_and_stays() {
        let schedule = Schedule { decay: Decay::Cosine { floor: 0.2 }, warmup: 0, steps: 100 };
        assert_eq!(schedule.share(0), 1.0);
        assert!((schedule.share(50) - 0.6).abs() < 1e-12);
        assert!((1..=100).all(|t| schedule.share(t) < schedule.share(t - 1)));
        assert_eq!((schedule.share(100), schedule.share(1000)), (0.2, 0.2));
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        for decay in [Decay::Constant, Decay::Step { every: 0, factor: 0.5 }, Decay::Cosine { floor: 0.0 }] {
            for (warmup, steps) in [(0, 0), (5, 5), (7, 3)] {
                let schedule = Schedule { decay, warmup, steps };
                assert!((0..20).all(|t| (0.0..=1.0).contains(&schedule.share(t))), "{schedule:?}");
            }
        }
        assert_eq!(Schedule::constant().lr(0.5, 1_000_000), 0.5);
    }
}
