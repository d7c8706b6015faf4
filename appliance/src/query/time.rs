//! Moments as people write them.

use fleet::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::core::Moment;

/// `2026-11-21T13:27:29.5Z`
pub fn rfc3339(at: Timestamp) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| at.0.to_string())
}

/// A position of the log, an RFC 3339 time, or so long ago: `-2h`, `-30m`, `-1d`, `-90s`.
pub fn moment(text: &str, now: Timestamp) -> Result<Moment, String> {
    if let Ok(position) = text.parse::<u32>() {
        return Ok(Moment::Position(i64::from(position)));
    }
    if let Some(ago) = text.strip_prefix('-') {
        let secs = span(ago).ok_or_else(|| format!("{text:?} is not a time ago: -90s, -30m, -2h or -1d"))?;
        return Ok(Moment::Time(Timestamp(now.0.saturating_sub(secs.saturating_mul(1000)))));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!(
            "{text:?} is not a moment: a position of the log, a time as 2026-11-21T13:27:29Z, or -2h for two \
             hours ago"
        )
    })?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Ok(Moment::Time(Timestamp(millis)))
}

fn span(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<u64>().ok())??.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_three_ways() {
        let now = Timestamp(1_000_000_000_000);
        assert_eq!(moment("17", now), Ok(Moment::Position(17)));
        assert_eq!(moment("-2h", now), Ok(Moment::Time(Timestamp(now.0 - 7_200_000))));
        assert_eq!(moment("-1w", now), Ok(Moment::Time(Timestamp(now.0 - 604_800_000))));
        assert_eq!(moment("1970-01-01T00:00:01.5Z", now), Ok(Moment::Time(Timestamp(1500))));
        assert_eq!(moment("1970-01-01T02:00:01+02:00", now), Ok(Moment::Time(Timestamp(1000))));
        for wrong in ["", "-", "-2", "-h", "-2y", "yesterday", "2026-11-21", "-+2h", "-2é", "1.5"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
        assert_eq!(rfc3339(Timestamp(1500)), "1970-01-01T00:00:01.5Z");
    }
}
