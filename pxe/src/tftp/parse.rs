//! What clients send, read from bytes that anybody may have made up (RFC 1350, options as in RFC 2347).

use std::borrow::Cow;

/// A request has to fit into one Ethernet frame: nobody's is longer, and what is longer is no request.
pub const LONGEST_REQUEST: usize = 1500;

/// Longer names than a path may be are nobody's either.
const LONGEST_NAME: usize = 1024;

/// A packet that begins a transfer, sent to the server's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// With `/` where firmware wrote `\`; what is not UTF-8 is replaced, and then names no file.
    pub name: Cow<'a, str>,
    pub mode: Mode,
    pub options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes as they are; `binary` is what some call it.
    Octet,
    /// Lines ended by CR and LF, `netascii`; or a mode that nobody knows.
    Other,
}

/// The options that a request has and that make sense, each at most once (the first counts). What makes no sense is
/// left out, and so it is not acknowledged and does not hold (RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// RFC 2348: 8 to 65464 bytes of data in a block.
    pub block: Option<u16>,
    /// RFC 2349: whether the size is wanted.
    pub size: bool,
    /// RFC 2349: 1 to 255 seconds until a packet is sent again.
    pub timeout_secs: Option<u8>,
    /// RFC 7440: 1 to 65535 blocks before an acknowledgment.
    pub window: Option<u16>,
}

/// What came to the port of a transfer that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The last block that arrived in sequence.
    Ack(u16),
    /// The client breaks off, in its own words.
    Error(&'a [u8]),
}

/// Why there is no request in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    #[error("this server is read only")]
    Write,
    #[error("a request that is cut short")]
    Short,
    #[error("a request that is too long")]
    Long,
    /// Not the beginning of anything, so it gets no answer: two servers would answer each other for ever.
    #[error("a packet that is no request")]
    Other,
}

/// Reads what came to the server's port.
pub fn request(packet: &[u8]) -> Result<Request<'_>, NoRequest> {
    let Some((opcode, rest)) = packet.split_first_chunk::<2>() else { return Err(NoRequest::Other) };
    match opcode {
        [0, 1] => {}
        [0, 2] => return Err(NoRequest::Write),
        _ => return Err(NoRequest::Other),
    }
    if packet.len() > LONGEST_REQUEST {
        return Err(NoRequest::Long);
    }
    let mut words = Words(rest);
    let name = words.next().ok_or(NoRequest::Short)?;
    let mode = words.next().ok_or(NoRequest::Short)?;
    if name.len() > LONGEST_NAME {
        return Err(NoRequest::Long);
    }
    let mut name = String::from_utf8_lossy(name);
    // Windows' boot manager and some UEFI programs ask for \Boot\BCD.
    if name.contains('\\') {
        name = Cow::Owned(name.replace('\\', "/"));
    }
    let octet = mode.eq_ignore_ascii_case(b"octet") || mode.eq_ignore_ascii_case(b"binary");
    let mode = if octet { Mode::Octet } else { Mode::Other };
    let mut options = Options::default();
    // Firmware pads its requests with zeros, so what is left after the last whole pair is no mistake.
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        options.take(option, value);
    }
    Ok(Request { name, mode, options })
}

/// Reads what came to a transfer's port. Everything that is not an answer to a read is nothing.
pub fn reply(packet: &[u8]) -> Option<Reply<'_>> {
    match packet {
        [0, 4, high, low, ..] => Some(Reply::Ack(u16::from_be_bytes([*high, *low]))),
        [0, 5, _, _, words @ ..] => {
            Some(Reply::Error(words.split(|byte| *byte == 0).next().unwrap_or(words)))
        }
        _ => None,
    }
}

impl Options {
    fn take(&mut self, option: &[u8], value: &[u8]) {
        let Some(value) = number(value) else { return };
        if option.eq_ignore_ascii_case(b"blksize") {
            self.block = self.block.or(u16::try_from(value).ok().filter(|size| (8..=65464).contains(size)));
        } else if option.eq_ignore_ascii_case(b"tsize") {
            self.size = true;
        } else if option.eq_ignore_ascii_case(b"timeout") {
            self.timeout_secs = self.timeout_secs.or(u8::try_from(value).ok().filter(|secs| *secs > 0));
        } else if option.eq_ignore_ascii_case(b"windowsize") {
            self.window = self.window.or(u16::try_from(value).ok().filter(|blocks| *blocks > 0));
        }
    }
}

/// A number in decimal digits and nothing else; `None` also for one that no option can have.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter()
        .try_fold(0_u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// The words of a packet, each ended by a zero.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let word = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Request<'_>, NoRequest> {
        request(text)
    }

    #[test]
    fn a_request_is_read_as_clients_write_it() {
        let plain = read(b"\0\x01undionly.kpxe\0octet\0").unwrap();
        assert_eq!((plain.name.as_ref(), plain.mode), ("undionly.kpxe", Mode::Octet));
        assert_eq!(plain.options, Options::default());
        // As EDK2 writes it, with padding behind it.
        let edk2 = read(b"\0\x01shimx64.efi\0OCTET\0tsize\x000\0blksize\x001468\0windowsize\x004\0\0\0\0\0")
            .unwrap();
        let options = Options { block: Some(1468), size: true, timeout_secs: None, window: Some(4) };
        assert_eq!(edk2.options, options);
        assert_eq!(read(b"\0\x01\\Boot\\BCD\0octet\0").unwrap().name, "/Boot/BCD");
        assert_eq!(read(b"\0\x01a\0netascii\0").unwrap().mode, Mode::Other);
        assert_eq!(read(b"\0\x01\xff\xfe\0octet\0").unwrap().name, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let options = |text: &str| {
            let packet = format!("\0\x01a\0octet\0{text}");
            read(packet.as_bytes()).unwrap().options
        };
        for absurd in [
            "blksize\x007\0",
            "blksize\x0065465\0",
            "blksize\0-1\0",
            "blksize\0+9\0",
            "blksize\x001468 \0",
            "blksize\0\0",
            "blksize\x0099999999999999999999999999\0",
            "timeout\x000\0",
            "timeout\x00256\0",
            "windowsize\x000\0",
            "windowsize\x0065536\0",
            "tsize\0many\0",
            "multicast\0\0",
            "blksize\x001468",
            "blksize",
        ] {
            assert_eq!(options(absurd), Options::default(), "{absurd:?}");
        }
        // The first one counts.
        assert_eq!(options("blksize\x00512\0BLKSIZE\x001024\0").block, Some(512));
        assert_eq!(options("timeout\x00255\0").timeout_secs, Some(255));
    }

    #[test]
    fn what_is_no_request_says_why() {
        assert_eq!(read(b"\0\x02a\0octet\0"), Err(NoRequest::Write));
        for short in [&b"\0\x01"[..], b"\0\x01a", b"\0\x01a\0", b"\0\x01a\0octet"] {
            assert_eq!(read(short), Err(NoRequest::Short), "{short:?}");
        }
        for other in
            [&b""[..], b"\0", b"\0\x03\0\x01x", b"\0\x04\0\0", b"\0\x05\0\0x\0", b"\x01\x01a\0octet\0"]
        {
            assert_eq!(read(other), Err(NoRequest::Other), "{other:?}");
        }
        let long = |length: usize| format!("\0\x01{}\0octet\0", "a".repeat(length));
        assert!(read(long(1024).as_bytes()).is_ok());
        assert_eq!(read(long(1025).as_bytes()), Err(NoRequest::Long));
        assert_eq!(read(long(64_000).as_bytes()), Err(NoRequest::Long));
    }

    #[test]
    fn replies_are_acknowledgments_and_errors() {
        assert_eq!(reply(b"\0\x04\x01\x02"), Some(Reply::Ack(258)));
        assert_eq!(reply(b"\0\x05\0\x08no\0more"), Some(Reply::Error(b"no")));
        assert_eq!(reply(b"\0\x05\0\0"), Some(Reply::Error(b"")));
        for nothing in
            [&b""[..], b"\0\x04\x01", b"\0\x05\0", b"\0\x03\0\x01", b"\0\x01a\0octet\0", b"\x04\0\0\0"]
        {
            assert_eq!(reply(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            head in prop_oneof![Just(vec![0, 1]), Just(vec![0, 4]), Just(vec![0, 5]), Just(vec![])],
            rest in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 7 => any::<u8>()], 0..200),
        ) {
            let packet = [head, rest].concat();
            if let Ok(request) = request(&packet) {
                prop_assert!(!request.name.contains('\0') && !request.name.contains('\\'));
                prop_assert!(request.options.block.is_none_or(|size| (8..=65464).contains(&size)));
            }
            reply(&packet);
        }
    }
}
