//! Going over many things that stand anywhere in memory.

use std::collections::VecDeque;
use std::hint::black_box;

/// Reads of so many are under way at once.
const AT_ONCE: usize = 64;

/// The same things, each after `touch` has read a bit of every part of it that will be looked at, and has said something
/// that depends on all of them.
///
/// Things that are touched one right after the other are fetched together; each that is only looked at when the one before
/// is done with is waited for by itself.
pub fn touched<T: Copy>(
    mut things: impl Iterator<Item = T>,
    touch: impl Fn(T) -> u64,
) -> impl Iterator<Item = T> {
    let mut near = VecDeque::with_capacity(AT_ONCE);
    std::iter::from_fn(move || {
        if near.is_empty() {
            near.extend(things.by_ref().take(AT_ONCE));
            black_box(near.iter().fold(0, |sum: u64, thing| sum.wrapping_add(touch(*thing))));
        }
        near.pop_front()
    })
}

/// Touches a text.
pub fn first(text: &str) -> u64 {
    u64::from(text.as_bytes().first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_in_their_order() {
        for count in [0, 1, 63, 64, 65, 1000] {
            let walked: Vec<u64> = touched(0..count, |number| number).collect();
            assert_eq!(walked, (0..count).collect::<Vec<u64>>());
        }
    }
}
