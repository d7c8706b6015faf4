//! What was decided in one number: of a whole fleet, and of a list of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Event, Fleet, ParseError, parts};

macro_rules! sha256 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let mut sum = [0; 32];
                hex::decode_to_slice(text, &mut sum).map_err(|_| ParseError {
                    text: text.to_owned(),
                    what: concat!($what, ": 64 hexadecimal digits"),
                })?;
                Ok($name(sum))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::id::from_text(deserializer)
            }
        }
    };
}

sha256! {
    /// SHA-256 of a fleet's snapshot: two fleets with the same hash are the same, ids, times and counters included.
    StateHash, "a state hash"
}

sha256! {
    /// SHA-256 over what events say, without when: two lists with the same digest do the same.
    Digest, "a digest"
}

pub fn state_hash(fleet: &Fleet) -> StateHash {
    // The last part holds the digests of all others.
    parts(fleet).last().map_or(StateHash([0; 32]), |end| end.digest())
}

pub fn digest(events: &[Event]) -> Digest {
    let mut sha256 = Sha256::new();
    for event in events {
        let body = serde_json::to_value(event).unwrap_or_default();
        let mut text = String::new();
        write_canonically(&body, &mut text);
        text.push('\n');
        sha256.update(text);
    }
    Digest(sha256.finalize().into())
}

/// Keys in their order, so that it does not matter how they are kept; the keys that hold a time are left out.
fn write_canonically(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> =
                object.iter().filter(|(key, _)| !is_time(key)).collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonically(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_canonically(value, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

fn is_time(key: &str) -> bool {
    key == "at" || key == "since" || key.ends_with("_since") || key.ends_with("_at")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Mac, Timestamp, lease, machine};

    fn issued(key: &str) -> Event {
        Event::Machine(machine::Event::CertificateIssued { machine: crate::MachineId(1), key: key.into() })
    }

    #[test]
    fn a_digest_tells_events_apart_and_times_not() {
        let installed = |attempt, at| {
            Event::Machine(machine::Event::Installed {
                machine: crate::MachineId(1),
                attempt,
                at: Timestamp(at),
            })
        };
        assert_eq!(digest(&[installed(1, 5)]), digest(&[installed(1, 6)]));
        assert_ne!(digest(&[installed(1, 5)]), digest(&[installed(2, 5)]));
        assert_ne!(digest(&[issued("a"), issued("b")]), digest(&[issued("b"), issued("a")]));
        let address = |last| {
            Event::Lease(lease::Event::Assigned { mac: Mac([2; 6]), address: Ipv4Addr::new(10, 0, 0, last) })
        };
        assert_ne!(digest(&[address(1)]), digest(&[address(2)]));
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let written = digest(&[issued("a")]);
        assert_eq!(written.to_string().parse(), Ok(written));
        for wrong in ["", "7f3a", &"g".repeat(64)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
