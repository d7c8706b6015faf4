//! The order of a list, and one page of it: what is not shown is not sorted.

use std::cmp::Ordering;

/// Where something stands: by numbers, or by its name as people count (`host-9` before `host-10`).
///
/// Without the 8 bytes of alignment: a list has 100,000 of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, packed(8))]
pub struct Key(u128, u64);

impl Key {
    /// First by this, then by the name.
    pub fn number(number: u64, name: &str) -> Key {
        let (letters, digits) = begin::<8>(name);
        Key((u128::from(number) << 64) | u128::from(u64::from_be_bytes(letters)), leading_number(digits))
    }

    /// The letters before the first digit, then the number. What is equal in these is told apart by [`natural`].
    pub fn name(name: &str) -> Key {
        let (letters, digits) = begin::<16>(name);
        Key(u128::from_be_bytes(letters), leading_number(digits))
    }

    /// First by this, then by the name.
    pub fn group(place: u8, name: &str) -> Key {
        let Key(letters, number) = Key::name(name);
        Key((u128::from(place) << 120) | (letters >> 8), number)
    }
}

/// The letters that there is room for, and what follows them.
fn begin<const ROOM: usize>(name: &str) -> ([u8; ROOM], &str) {
    let letters = name.bytes().position(|b| b.is_ascii_digit()).unwrap_or(name.len());
    let mut begin = [0; ROOM];
    let kept = letters.min(ROOM);
    begin[..kept].copy_from_slice(&name.as_bytes()[..kept]);
    // With as many letters as there is room for, a number would be compared before all letters were.
    (begin, if letters < ROOM { &name[letters..] } else { "" })
}

fn leading_number(digits: &str) -> u64 {
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// Names as people count them; equal only if they are the same.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (left.first(), right.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (x, y) = (number(&mut left), number(&mut right));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Takes the digits at the beginning, and gives them without zeros before them.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    &digits[zeros..]
}

/// Those that stand at `first` and after it, at most `count`, in their order.
pub fn page<T>(all: &mut [T], first: usize, count: usize, compare: impl Fn(&T, &T) -> Ordering) -> &mut [T] {
    if first >= all.len() {
        return &mut [];
    }
    if first > 0 {
        all.select_nth_unstable_by(first, &compare);
    }
    let rest = &mut all[first..];
    if count < rest.len() {
        rest.select_nth_unstable_by(count, &compare);
    }
    let count = count.min(rest.len());
    let shown = &mut rest[..count];
    shown.sort_unstable_by(compare);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(a: &&str, b: &&str) -> Ordering {
        Key::name(a).cmp(&Key::name(b)).then_with(|| natural(a, b))
    }

    #[test]
    fn names_come_as_people_count() {
        let wanted = [
            "build-1",
            "build-2",
            "build-10",
            "build-10-a",
            "db",
            "db-007",
            "host-9",
            "host-10",
            "host-99999999999999999999998",
            "host-99999999999999999999999",
        ];
        let mut names = wanted;
        names.reverse();
        names.sort_unstable_by(by_name);
        assert_eq!(names, wanted);
        let counted =
            |a: &&str, b: &&str| Key::number(7, a).cmp(&Key::number(7, b)).then_with(|| natural(a, b));
        names.reverse();
        names.sort_unstable_by(counted);
        assert_eq!(names, wanted);
        assert!(
            Key::number(6, "z-9") < Key::number(7, "a") && Key::number(1 << 40, "") > Key::number(7, "z")
        );
        let long = ["a-name-that-is-rather-long-2", "a-name-that-is-rather-long-10"];
        assert_eq!(by_name(&long[0], &long[1]), Ordering::Less);
    }

    #[test]
    fn a_page_is_the_part_of_the_whole_that_it_says() {
        let names: Vec<String> = (0..997).map(|number| format!("vm-{}", (number * 613) % 997)).collect();
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable_by(by_name);
        for (first, count) in [(0, 10), (0, 0), (500, 50), (990, 50), (997, 5), (2000, 5), (0, 5000)] {
            let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
            let end = (first + count).min(997);
            let wanted = sorted.get(first..end).unwrap_or_default();
            assert_eq!(page(&mut all, first, count, by_name), wanted, "{first} {count}");
        }
    }
}
