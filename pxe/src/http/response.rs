//! An answer, and its head as bytes (RFC 9112 section 4).

use std::{fmt::Write as _, fs::File, time::SystemTime};

use super::select::Version;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Besides Date, Connection, Content-Length.
    ///
    /// Their names are written in the RFC's way: GRUB knows `Content-Length: ` and not `content-length: `; without it,
    /// it waits for half a minute for the connection to be closed.
    pub fields: Vec<(&'static str, String)>,
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    /// No body, and no length: only a 304 has none.
    Nothing,
    Text(String),
    File(Box<Part>),
}

/// The bytes of a file from `start` to before `end`.
#[derive(Debug)]
pub struct Part {
    pub file: File,
    pub name: String,
    pub version: Version,
    pub start: u64,
    pub end: u64,
}

impl Response {
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let fields = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Self { status, fields, content: Content::Text(text.into()) }
    }

    /// EDK2's HTTP client waits for a body even where the length says that there is none: with an empty
    /// one, shim spends half a minute on each of the files that it looks for and that need not be there.
    pub fn missing() -> Self {
        Self::text(404, "there is no such file\n")
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The head, to its empty line.
    pub fn head(&self, keep_alive: bool, now: SystemTime) -> String {
        let mut head = String::with_capacity(320);
        // Writing to a string does not fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let _ = write!(head, "Date: {}\r\n", httpdate::fmt_http_date(now));
        // iPXE keeps a connection only if it is told so, although HTTP/1.1 means it.
        head.push_str(if keep_alive { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" });
        // Firmware and loaders want the length; a body without would have to be sent in chunks, which few of them know.
        let length = match &self.content {
            Content::Nothing => None,
            Content::Text(text) => Some(text.len() as u64),
            Content::File(part) => Some(part.end - part.start),
        };
        if let Some(length) = length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        for (name, value) in &self.fields {
            debug_assert!(!value.contains(['\r', '\n']), "{name}");
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty; the space before it may not be left out.
        _ => "",
    }
}
