//! The property suites, one file per operator stem: one binary, so that it is linked once.
//!
//! `cargo test --test properties pool::` runs one stem; `PROPTEST_CASES=1000` runs more cases of each property.

mod activation;
mod add;
mod batch_norm;
mod case;
mod concat;
mod conv2d;
mod conv_transpose2d;
mod linear;
mod loss;
mod optimiser;
mod pad;
mod pool;
mod softmax;
mod strategies;
mod upsample;
