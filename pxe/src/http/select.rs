//! Which part of a file a request gets, if any: conditions and ranges (RFC 9110 sections 13 and 14).

use std::{
    fs::Metadata,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::head::{Conditions, Method, number};

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub length: u64,
    /// Length and time of the last change, as nginx makes it. With quotes.
    pub etag: String,
    /// In whole seconds, as HTTP's dates are.
    pub modified: SystemTime,
}

impl Version {
    pub fn of(metadata: &Metadata) -> Self {
        let modified = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        Self {
            length: metadata.len(),
            etag: format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len()),
            modified: UNIX_EPOCH + Duration::from_secs(modified.as_secs()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    Whole,
    /// From the first byte to the one after the last; never empty.
    Part(u64, u64),
    /// 304: the client has it.
    NotModified,
    /// 412: the file is not the one that was meant.
    Failed,
    /// 416: there is no such part.
    Unsatisfiable,
}

/// Decides in the order of RFC 9110 section 13.2.2.
pub fn select(method: Method, conditions: &Conditions, version: &Version) -> Selection {
    let date = |text: &Option<String>| httpdate::parse_http_date(text.as_deref()?).ok();
    let as_meant = match &conditions.if_match {
        Some(tags) => listed(tags, &version.etag, false),
        None => date(&conditions.if_unmodified_since).is_none_or(|since| version.modified <= since),
    };
    if !as_meant {
        return Selection::Failed;
    }
    let known = match &conditions.if_none_match {
        Some(tags) => listed(tags, &version.etag, true),
        None => date(&conditions.if_modified_since).is_some_and(|since| version.modified <= since),
    };
    if known {
        return Selection::NotModified;
    }
    // Ranges are defined for GET only (section 14.2).
    let Some(range) = conditions.range.as_deref().filter(|_| method == Method::Get) else {
        return Selection::Whole;
    };
    // A range of another version of the file is worth nothing: then all of it is sent.
    let same = match conditions.if_range.as_deref() {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == version.etag,
        // To the second, so a file that was replaced twice in one second is not told apart; whoever cares sends the tag.
        Some(_) => date(&conditions.if_range) == Some(version.modified),
    };
    if same { parse_range(range, version.length) } else { Selection::Whole }
}

/// Whether a list of entity tags has `etag`. A weak one is the same only for `weakly` (section 8.8.3.2).
fn listed(tags: &str, etag: &str, weakly: bool) -> bool {
    tags.trim() == "*"
        || tags.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
            Some(tag) => weakly && tag == etag,
            None => tag == etag,
        })
}

/// One range is honoured; several, or another unit, mean the whole file (section 14.2 allows it).
fn parse_range(header: &str, length: u64) -> Selection {
    let Some((first, last)) = header
        .get(..6)
        .filter(|unit| unit.eq_ignore_ascii_case("bytes="))
        .and_then(|_| header[6..].trim().split_once('-'))
    else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => {
            Selection::Unsatisfiable
        }
        (Some(first), None) if last.is_empty() => Selection::Part(first, length),
        (Some(first), Some(last)) if first <= last => {
            Selection::Part(first, length.min(last.saturating_add(1)))
        }
        (None, Some(0)) if first.is_empty() => Selection::Unsatisfiable,
        (None, Some(_)) if first.is_empty() && length == 0 => Selection::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => Selection::Part(length.saturating_sub(count), length),
        _ => Selection::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-9", Selection::Part(0, 10)),
            ("Bytes=0-9", Selection::Part(0, 10)),
            ("bytes=5-", Selection::Part(5, 100)),
            ("bytes=-7", Selection::Part(93, 100)),
            ("bytes=-700", Selection::Part(0, 100)),
            ("bytes=90-1000", Selection::Part(90, 100)),
            ("bytes=0-18446744073709551615", Selection::Part(0, 100)),
            ("bytes=100-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=9-5", Selection::Whole),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=+1-5", Selection::Whole),
            ("lines=1-2", Selection::Whole),
            ("bytes=99999999999999999999-", Selection::Whole),
        ];
        for (header, range) in cases {
            assert_eq!(parse_range(header, 100), range, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn conditions() {
        let version = Version {
            length: 100,
            etag: "\"a-64\"".to_owned(),
            modified: httpdate::parse_http_date("Sat, 21 Nov 2026 17:00:00 GMT").unwrap(),
        };
        let decide = |fields: &[(&str, &str)]| {
            let mut conditions = Conditions::default();
            for (name, value) in fields {
                let field = match *name {
                    "match" => &mut conditions.if_match,
                    "none" => &mut conditions.if_none_match,
                    "since" => &mut conditions.if_modified_since,
                    "unmodified" => &mut conditions.if_unmodified_since,
                    "if-range" => &mut conditions.if_range,
                    other => {
                        assert_eq!(other, "range");
                        &mut conditions.range
                    }
                };
                *field = Some((*value).to_owned());
            }
            select(Method::Get, &conditions, &version)
        };
        let (then, before) = ("Sat, 21 Nov 2026 17:00:00 GMT", "Sat, 21 Nov 2026 16:59:59 GMT");
        let part = Selection::Part(1, 2);
        let range = ("range", "bytes=1-1");

        assert_eq!(decide(&[]), Selection::Whole);
        assert_eq!(decide(&[range]), part);
        assert_eq!(decide(&[("none", "\"x\", W/\"a-64\""), range]), Selection::NotModified);
        assert_eq!(decide(&[("none", "*")]), Selection::NotModified);
        assert_eq!(decide(&[("since", then)]), Selection::NotModified);
        assert_eq!(decide(&[("since", before)]), Selection::Whole);
        assert_eq!(decide(&[("since", "yesterday")]), Selection::Whole);
        // The tag is asked first, and then the date no more.
        assert_eq!(decide(&[("none", "\"x\""), ("since", then)]), Selection::Whole);
        assert_eq!(decide(&[("match", "\"a-64\""), range]), part);
        assert_eq!(decide(&[("match", "W/\"a-64\"")]), Selection::Failed);
        assert_eq!(decide(&[("match", "\"x\""), ("none", "*")]), Selection::Failed);
        assert_eq!(decide(&[("unmodified", before)]), Selection::Failed);
        assert_eq!(decide(&[("unmodified", then)]), Selection::Whole);
        for (tag, selection) in [
            ("\"a-64\"", part),
            ("\"x\"", Selection::Whole),
            ("W/\"a-64\"", Selection::Whole),
            (then, part),
            (before, Selection::Whole),
        ] {
            assert_eq!(decide(&[("if-range", tag), range]), selection, "{tag}");
        }
        let range = Conditions { range: Some("bytes=1-1".to_owned()), ..Conditions::default() };
        assert_eq!(select(Method::Head, &range, &version), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond(header in "(bytes=)?[0-9]{0,4}-?[0-9,-]{0,6}", length in 0_u64..2000) {
            if let Selection::Part(start, end) = parse_range(&header, length) {
                prop_assert!(start < end && end <= length);
            }
        }
    }
}
