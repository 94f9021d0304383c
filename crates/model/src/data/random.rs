//! Random numbers that a seed and a place decide, so that nothing needs to be kept to go on from there.
//!
//! ChaCha with 8 rounds: its stream is specified, so that a seed means the same on every machine and in every version.
//! The seed gives the key; the epoch and the purpose give the stream; the position is a place in the stream.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// What numbers are drawn for: each purpose has a stream of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Order = 0,
    Augment = 1,
    Cells = 2,
}

/// More purposes may come; their streams must not meet those of the next epoch.
const PURPOSES: u64 = 16;

/// Words of the stream for each position. An augmentation draws 5.
const WORDS: u128 = 64;

/// The random numbers for a purpose in an epoch.
pub(super) fn stream(seed: u64, epoch: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch.wrapping_mul(PURPOSES).wrapping_add(purpose as u64));
    rng
}

/// Moves to a place of the stream that is `position`'s alone.
pub(super) fn seek(rng: &mut ChaCha8Rng, position: usize) {
    rng.set_word_pos(position as u128 * WORDS);
}

/// An integer below `bound` (above 0), each as likely as the others to within `bound / 2^64`.
///
/// Spelled out (D. Lemire, "Fast Random Integer Generation in an Interval", 2019, without its rejection step), so that
/// how many words it draws and what it makes of them cannot change below us.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// A number in 0..1, of 24 random bits.
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Puts `items` into a random order (Fisher and Yates).
pub(super) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_cipher() {
        // The first words of ChaCha8 under a key of zeros: test vector TC1 of draft-strombergson-chacha-test-vectors-01,
        // 3e 00 ef 2f 89 5f 40 d6 …
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        assert_eq!(rng.next_u32().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f]);
        assert_eq!(rng.next_u32().to_le_bytes(), [0x89, 0x5f, 0x40, 0xd6]);
    }

    #[test]
    fn a_seed_gives_the_same_order_in_every_version() {
        let mut order: Vec<usize> = (0..10).collect();
        shuffle(&mut stream(1, 0, Purpose::Order), &mut order);
        assert_eq!(order, [2, 7, 8, 5, 3, 6, 1, 9, 0, 4]);
    }

    #[test]
    fn epochs_purposes_and_positions_differ() {
        let first = |seed, epoch, purpose, position| {
            let mut rng = stream(seed, epoch, purpose);
            seek(&mut rng, position);
            rng.next_u64()
        };
        let all = [
            first(0, 0, Purpose::Order, 0),
            first(1, 0, Purpose::Order, 0),
            first(0, 1, Purpose::Order, 0),
            first(0, 0, Purpose::Augment, 0),
            first(0, 0, Purpose::Order, 1),
        ];
        for (i, value) in all.iter().enumerate() {
            assert!(!all[..i].contains(value), "{all:?}");
        }
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut rng = stream(7, 0, Purpose::Order);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6000 {
            let mut order = [0, 1, 2];
            shuffle(&mut rng, &mut order);
            *counts.entry(order).or_insert(0) += 1;
        }
        // 1000 each, with a standard deviation of 29.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
