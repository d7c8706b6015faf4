//! Versions in expressions: `"1.10"` is later than `"1.2"`.

use std::any::Any;
use std::cmp::Ordering;

use cel::ExecutionError;
use cel::common::traits::Comparer;
use cel::common::types::{CelString, Type};
use cel::common::value::{StaticVal, Val};

static VERSION: Type = Type::new_unspecified_type("version");

#[derive(Debug, Clone)]
pub struct Version(pub String);

impl Version {
    fn of(value: &dyn Val) -> Option<&str> {
        let version = value.downcast_ref::<Version>().map(|version| version.0.as_str());
        version.or_else(|| value.downcast_ref::<CelString>().map(|text| text.inner()))
    }
}

impl Val for Version {
    fn get_type(&self) -> &Type {
        &VERSION
    }

    fn cel_type() -> &'static Type {
        &VERSION
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        Version::of(other).is_some_and(|other| compare(&self.0, other) == Ordering::Equal)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Version {}

impl Comparer for Version {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        let other = Version::of(other).ok_or_else(|| {
            let types = vec!["version".to_owned(), other.get_type().name().to_owned()];
            ExecutionError::no_such_overload("_<_", types)
        })?;
        Ok(compare(&self.0, other))
    }
}

/// Numbers by their size, words by their letters; `1.2` is `1.2.0`, later than `1.2-rc1` and earlier than `1.2a`.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (parts(left), parts(right));
    loop {
        let (one, other) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (one, other) => (one.unwrap_or(Part::END), other.unwrap_or(Part::END)),
        };
        match one.cmp(&other) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// What comes before a release: `-rc1` (SemVer), `~rc1` (Debian).
    Before,
    /// Without leading zeros: the longer is the greater.
    Number(usize, &'a str),
    Word(&'a str),
}

impl Part<'_> {
    /// Past the end of the shorter version stands `.0` for ever.
    const END: Part<'static> = Part::Number(0, "");
}

fn parts(version: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = version.strip_prefix('v').unwrap_or(version);
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let same = |c: char| match first {
                '0'..='9' => c.is_ascii_digit(),
                _ => c.is_alphabetic(),
            };
            if first.is_ascii_digit() || first.is_alphabetic() {
                let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                rest = after;
                if !first.is_ascii_digit() {
                    return Some(Part::Word(part));
                }
                let digits = part.trim_start_matches('0');
                return Some(Part::Number(digits.len(), digits));
            }
            rest = &rest[first.len_utf8()..];
            if first == '-' || first == '~' {
                return Some(Part::Before);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_in_which_they_came_out() {
        let order = [
            "0.9",
            "1.0~beta",
            "1.0-rc1",
            "1.0-rc2",
            "1.0-rc10",
            "1.0",
            "1.0.1",
            "1.2",
            "1.2a",
            "1.3",
            "1.9",
            "1.10",
            "1.10.2",
            "2",
            "10.0",
            "20260101",
            "99999999999999999999999.1",
        ];
        for (place, earlier) in order.iter().enumerate() {
            assert_eq!(compare(earlier, earlier), Ordering::Equal);
            for later in &order[place + 1..] {
                assert_eq!(compare(earlier, later), Ordering::Less, "{earlier} {later}");
                assert_eq!(compare(later, earlier), Ordering::Greater, "{earlier} {later}");
            }
        }
        for (one, other) in [("1.2", "1.2.0"), ("v1.2", "1.2"), ("1.02", "1.2"), ("1.2.0.0", "1.2")] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
    }
}
