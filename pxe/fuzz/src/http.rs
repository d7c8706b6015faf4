//! What a request on the HTTP port is taken for.

use std::time::{Duration, UNIX_EPOCH};

use pxe::http::{
    head::{self, LONGEST},
    route,
    select::{Selection, Version, select},
};

pub fn request(bytes: &[u8]) {
    let Ok(Some((request, length))) = head::parse(bytes) else { return };
    assert!(length <= bytes.len() && length <= LONGEST);
    assert!(request.path.starts_with('/') && request.target.starts_with('/'));
    // What is behind a head has no part in it, and one that is not all there is waited for.
    assert_eq!(head::parse(&bytes[..length]), Ok(Some((request.clone(), length))));
    assert_eq!(head::parse(&bytes[..length - 1]), Ok(None));
    let _ = route(&request.path);
    for length in [0, 1, 1000, u64::MAX] {
        let version = Version {
            length,
            etag: "\"1-2\"".to_owned(),
            modified: UNIX_EPOCH + Duration::from_secs(1 << 30),
        };
        if let Selection::Part(start, end) = select(request.method, &request.conditions, &version) {
            assert!(start < end && end <= length);
        }
    }
}
