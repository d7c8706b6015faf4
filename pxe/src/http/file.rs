//! One file as an HTTP response: ranges, ETag, HEAD (RFC 9110).

use std::{
    fs::{File, Metadata},
    io::SeekFrom,
    time::UNIX_EPOCH,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::transfer::Transfer;

/// Read at a time; each read is a turn of a blocking thread.
const CHUNK: usize = 256 << 10;

/// Sends the file or the part of it that was asked for; `transfer` makes the note for that many bytes.
pub async fn respond(
    file: File,
    metadata: &Metadata,
    method: &Method,
    headers: &HeaderMap,
    transfer: impl FnOnce(u64) -> Transfer,
) -> Response {
    let length = metadata.len();
    let etag = etag(metadata);
    let Ok(etag_value) = HeaderValue::from_str(&etag) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let same =
        |name| headers.get(name).is_some_and(|value: &HeaderValue| value.as_bytes() == etag.as_bytes());
    if same(header::IF_NONE_MATCH) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag_value)]).into_response();
    }
    // A range of another version of the file is worth nothing: then all of it is sent.
    let wanted = if !headers.contains_key(header::IF_RANGE) || same(header::IF_RANGE) {
        headers.get(header::RANGE).and_then(|range| range.to_str().ok())
    } else {
        None
    };
    let (status, start, end) = match wanted.map_or(Range::Whole, |range| parse_range(range, length)) {
        Range::Whole => (StatusCode::OK, 0, length),
        Range::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Range::Unsatisfiable => {
            let size = format!("bytes */{length}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, size)]).into_response();
        }
    };

    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(CHUNK);
        if start > 0
            && let Err(error) = file.seek(SeekFrom::Start(start)).await
        {
            tracing::warn!("Seeking in a boot file: {error}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let mut transfer = transfer(end - start);
        let stream = ReaderStream::with_capacity(file.take(end - start), CHUNK);
        Body::from_stream(stream.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                transfer.count(chunk.len());
            }
        }))
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag_value);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // iPXE and EDK2 want the length; a body of unknown length would be sent in chunks.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {start}-{}/{length}", end - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

/// Length and time of the last change, as nginx makes it.
fn etag(metadata: &Metadata) -> String {
    let modified =
        metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len())
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first byte to the one after the last; never empty.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range is honoured; several, or another unit, mean the whole file (RFC 9110 section 14.2 allows it).
fn parse_range(header: &str, length: u64) -> Range {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (number(first), number(last)) {
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => {
            Range::Unsatisfiable
        }
        (Some(first), None) if last.is_empty() => Range::Part(first, length),
        (Some(first), Some(last)) if first <= last => Range::Part(first, length.min(last.saturating_add(1))),
        (None, Some(0)) if first.is_empty() => Range::Unsatisfiable,
        (None, Some(_)) if first.is_empty() && length == 0 => Range::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => Range::Part(length.saturating_sub(count), length),
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-9", Range::Part(0, 10)),
            ("bytes=5-", Range::Part(5, 100)),
            ("bytes=-7", Range::Part(93, 100)),
            ("bytes=-700", Range::Part(0, 100)),
            ("bytes=90-1000", Range::Part(90, 100)),
            ("bytes=0-18446744073709551615", Range::Part(0, 100)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=9-5", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes=+1-5", Range::Whole),
            ("lines=1-2", Range::Whole),
            ("bytes=99999999999999999999-", Range::Whole),
        ];
        for (header, range) in cases {
            assert_eq!(parse_range(header, 100), range, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), Range::Unsatisfiable);
    }
}
