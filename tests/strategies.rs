//! What all property suites draw from.

use proptest::prelude::*;
use tilewise_bench::case::{Case, Numbers, Problem};
use tilewise_kernels::Shape4;

/// As many cases per property as `PROPTEST_CASES` says (256 by default); no files of regressions.
pub fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    // Some properties pass over what they say nothing about; that may take its time in proportion.
    let rejects = default.cases.saturating_mul(100);
    ProptestConfig {
        failure_persistence: None,
        max_global_rejects: rejects,
        max_local_rejects: rejects.max(default.max_local_rejects),
        ..default
    }
}

/// The same for properties of large problems: an eighth of the cases.
pub fn config_of_large() -> ProptestConfig {
    let config = config();
    ProptestConfig { cases: config.cases.div_ceil(8), ..config }
}

/// Cases of these problems: any kind of numbers, any seed.
pub fn cases(problems: impl Strategy<Value = Problem>) -> impl Strategy<Value = Case> {
    let numbers = prop_oneof![Just(Numbers::Real), Just(Numbers::Integer), Just(Numbers::Special)];
    (problems, numbers, any::<u16>()).prop_map(|(problem, numbers, seed)| Case {
        problem,
        numbers,
        seed: seed.into(),
    })
}

/// Batches from none to three, and planes up to `size`: small, but over the lanes of every vector.
pub fn extents(channels: usize, size: usize) -> impl Strategy<Value = Shape4> {
    (0..=3usize, 1..=channels, 1..=size, 1..=size).prop_map(|(n, c, h, w)| Shape4::new(n, c, h, w))
}

/// Sizes as no caller should give them: small ones, zero, and from 2^46 on, so that a single row of f32 fits into no
/// address space and sums and products overflow.
pub fn garbage() -> impl Strategy<Value = usize> {
    let max = usize::MAX;
    prop_oneof![
        4 => 0..5usize,
        1 => prop::sample::select(vec![1 << 46, 1 << 61, 1 << 62, 1 << 63, max / 2, max - 1, max]),
        1 => any::<usize>().prop_map(|v| v | 1 << 46),
    ]
}

/// Turns a broken law into a failure of the property.
pub fn hold(law: Result<(), String>) -> Result<(), TestCaseError> {
    law.map_err(TestCaseError::fail)
}
