//! The head of a request, as far as a boot server needs it (RFC 9112 sections 2 to 7).

use httparse::{EMPTY_HEADER, Error, Header, Status};

/// No firmware or loader that is known comes near it.
pub const LONGEST: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// One request, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: Method,
    /// Decoded, without the query. Begins with a slash.
    pub path: String,
    /// Path and query as they were sent.
    pub target: String,
    pub host: Option<String>,
    /// The connection goes on after the answer.
    pub keep_alive: bool,
    /// Bytes of a body that follow the head.
    pub body: u64,
    /// The client sends its body only when it is told to (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    pub conditions: Conditions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// The fields that make a request conditional or one for a part (RFC 9110 sections 13.1 and 14.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<String>,
    pub if_unmodified_since: Option<String>,
    pub if_range: Option<String>,
    pub range: Option<String>,
}

/// Why a request is not answered: the status and a sentence. Nothing after it on this connection can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    pub status: u16,
    pub why: &'static str,
}

const fn bad(status: u16, why: &'static str) -> Bad {
    Bad { status, why }
}

/// Reads a head from the beginning of `bytes`. `None`: there is more to come. With the head goes how many bytes it
/// was; what is behind it is the body or the next request.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= LONGEST => length,
        Ok(Status::Partial) if bytes.len() < LONGEST => return Ok(None),
        Ok(_) => return Err(bad(431, "the head of the request is too long")),
        Err(Error::TooManyHeaders) => return Err(bad(431, "the request has too many header fields")),
        Err(Error::Version) => return Err(bad(505, "this server speaks HTTP/1.0 and HTTP/1.1")),
        Err(_) => return Err(bad(400, "this is not a request of HTTP/1.1")),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let fields = Fields(request.headers);
    let target = origin(request.path.unwrap_or_default())?;
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = decode(path).ok_or(bad(400, "the path is not one of UTF-8"))?;

    // A server of many names needs to know which; ours has one, so whoever sends no name is served all the same.
    let host = fields.only("host").map_err(|()| bad(400, "the request has two host names"))?;
    if fields.all("transfer-encoding").next().is_some() {
        return Err(bad(411, "the body of a request needs its length first"));
    }
    let body = match fields.only("content-length") {
        Ok(None) => 0,
        Ok(Some(length)) => number(length).ok_or(bad(400, "the length of the body is not a number"))?,
        Err(()) => return Err(bad(400, "the body has two lengths")),
    };
    let later = request.version == Some(1);
    let says = |token: &str| {
        let tokens = fields.all("connection").flat_map(|line| line.split(','));
        tokens.map(str::trim).any(|word| word.eq_ignore_ascii_case(token))
    };
    let head = Head {
        method,
        path,
        host: host.map(str::to_owned),
        keep_alive: !says("close") && (later || says("keep-alive")),
        body,
        expects_continue: later
            && fields.all("expect").any(|value| value.eq_ignore_ascii_case("100-continue")),
        conditions: Conditions {
            if_match: fields.list("if-match"),
            if_none_match: fields.list("if-none-match"),
            if_modified_since: fields.one("if-modified-since"),
            if_unmodified_since: fields.one("if-unmodified-since"),
            if_range: fields.one("if-range"),
            range: fields.one("range"),
        },
        target,
    };
    Ok(Some((head, length)))
}

struct Fields<'a>(&'a [Header<'a>]);

impl<'a> Fields<'a> {
    /// The lines of a field. One that is not text says nothing that is understood here.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        lines.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    }

    /// A field that may be there once.
    fn only(&self, name: &str) -> Result<Option<&'a str>, ()> {
        if self.0.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count() > 1 {
            return Err(());
        }
        Ok(self.all(name).next())
    }

    /// A field that is worth nothing if it is there twice.
    fn one(&self, name: &str) -> Option<String> {
        self.only(name).ok().flatten().map(str::to_owned)
    }

    /// A field whose lines are one list (RFC 9110 section 5.3).
    fn list(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> = self.all(name).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// Path and query of a target, which may also be a whole URL (RFC 9112 section 3.2.2).
fn origin(target: &str) -> Result<String, Bad> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    let rest = ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    });
    let Some(rest) = rest else { return Err(bad(400, "the target of the request is not a path")) };
    match rest.find(['/', '?']) {
        Some(start) if rest[start..].starts_with('/') => Ok(rest[start..].to_owned()),
        Some(start) => Ok(format!("/{}", &rest[start..])),
        None => Ok("/".to_owned()),
    }
}

fn decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? * 16 + digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Digits only: `parse` alone would take a plus sign.
pub fn number(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head {
        let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    fn refused(text: &str) -> u16 {
        parse(text.as_bytes()).unwrap_err().status
    }

    #[test]
    fn requests_as_firmware_and_loaders_write_them() {
        let grub =
            head("GET /boot/files/vmlinuz HTTP/1.1\r\nHost: 10.77.0.1\r\nUser-Agent: GRUB 2.12\r\n\r\n");
        assert_eq!(
            (grub.method, grub.path.as_str(), grub.keep_alive),
            (Method::Get, "/boot/files/vmlinuz", true)
        );
        let ipxe = head(
            "GET /boot/a%20b?x=/y HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.21.1\r\nHost: a:80\r\n\r\n",
        );
        assert_eq!((ipxe.path.as_str(), ipxe.target.as_str()), ("/boot/a b", "/boot/a%20b?x=/y"));
        let wget = head("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        assert!(!wget.keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").keep_alive);
        let posted =
            head("POST /boot/answers/x HTTP/1.1\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!((posted.method, posted.body, posted.expects_continue), (Method::Post, 12, true));
        // As to a proxy; and an empty line too many between two requests.
        assert_eq!(head("GET HTTP://a:80/b?c HTTP/1.1\r\n\r\n").path, "/b");
        assert_eq!(head("GET http://a?c HTTP/1.1\r\n\r\n").target, "/?c");
        assert_eq!(head("\r\nGET http://a HTTP/1.1\r\n\r\n").path, "/");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let get = |fields: &str| refused(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n"));
        assert_eq!(get("Content-Length: 1\r\nContent-Length: 1"), 400);
        assert_eq!(get("Content-Length: +1"), 400);
        assert_eq!(get("Content-Length: 99999999999999999999"), 400);
        assert_eq!(get("Content-Length: 1\r\nTransfer-Encoding: chunked"), 411);
        assert_eq!(get("Host: a\r\nHost: b"), 400);
        assert_eq!(get("Content-Length : 1"), 400);
        assert_eq!(get("X: a\r\n b"), 400);
        assert_eq!(get("X: a\0b"), 400);
        for nonsense in [
            "GET  / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01",
            "CONNECT a:80 HTTP/1.1\r\n\r\n",
            "* * HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(refused(nonsense), 400, "{nonsense:?}");
        }
        assert_eq!(refused("GET /%zz HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET /%ff HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("GET / HTTP/9.9\r\n\r\n"), 505);
        assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        assert_eq!(refused(&format!("GET /{}", "x".repeat(LONGEST))), 431);
        assert_eq!(get(&"X: y\r\n".repeat(100)), 431);
    }

    #[test]
    fn a_head_is_waited_for_to_its_end() {
        let whole = "GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end]), Ok(None), "{end}");
        }
        let (_, length) = parse(format!("{whole}GET /b").as_bytes()).unwrap().unwrap();
        assert_eq!(length, whole.len());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_head_or_is_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((head, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && head.path.starts_with('/'));
            }
        }

        #[test]
        fn a_path_comes_out_as_it_was_meant(path in "/[^\\x00]{0,40}") {
            let sent: String = path.bytes().map(|byte| match byte {
                b'/' => "/".to_owned(),
                byte => format!("%{byte:02X}"),
            }).collect();
            let head = head(&format!("GET {sent} HTTP/1.1\r\n\r\n"));
            prop_assert_eq!(head.path, path);
        }
    }
}
