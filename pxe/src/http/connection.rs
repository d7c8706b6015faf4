//! One connection: requests in, answers out, one after the other (RFC 9112 section 9).

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};

use super::{
    Site,
    head::{self, Bad, Head, Method},
    response::{Content, Response},
    send::{self, Broken},
    stream::Stream,
};
use crate::{Step, step::Protocol, transfer::Transfer};

/// From the first byte of a head to its last.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// For the body of a request, and for a client to take a short answer.
const SHORT_LIMIT: Duration = Duration::from_secs(30);
/// Between requests; and where connections run short.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
const IDLE_LIMIT_IN_NEED: Duration = Duration::from_secs(2);
/// What an installer says when it is done is a few lines.
const LARGEST_BODY: u64 = 64 << 10;

/// Answers until one of both ends it; `to` is the address that the client came to.
pub async fn serve(mut stream: Stream, from: IpAddr, to: IpAddr, site: Arc<Site>) {
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let head = match next_head(&mut stream, &mut buffer, &site).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(bad) => return refuse(stream, bad).await,
        };
        if head.body > LARGEST_BODY {
            let bad = Bad { status: 413, why: "nothing here takes a body of that size" };
            return refuse(stream, bad).await;
        }
        // Nothing in a body is of interest, but it stands before the next request.
        match timeout(SHORT_LIMIT, skip_body(&mut stream, &mut buffer, &head)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        let response = site.files.answer(from, to, &head, &site.hand_over).await;
        if let Err(broken) = respond(&mut stream, from, &site, &head, response).await {
            // Machines break connections off all the time: when they reset, and when they have what they need.
            tracing::trace!("HTTP connection of {from}: {broken}");
            return;
        }
        if !head.keep_alive {
            return stream.close(!buffer.is_empty()).await;
        }
    }
}

/// Reads to the end of a head, which may be in `buffer` already. `None`: there is none, or it took too long.
async fn next_head(stream: &mut Stream, buffer: &mut Vec<u8>, site: &Site) -> Result<Option<Head>, Bad> {
    let mut begun: Option<Instant> = None;
    loop {
        if !buffer.is_empty() {
            if let Some((head, length)) = head::parse(buffer)? {
                buffer.drain(..length);
                return Ok(Some(head));
            }
            begun.get_or_insert_with(Instant::now);
        }
        let limit = match begun {
            Some(begun) => HEAD_LIMIT.saturating_sub(begun.elapsed()),
            None if site.is_crowded() => IDLE_LIMIT_IN_NEED,
            None => IDLE_LIMIT,
        };
        match timeout(limit, stream.read(buffer)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => return Ok(None),
        }
    }
}

async fn skip_body(stream: &mut Stream, buffer: &mut Vec<u8>, head: &Head) -> io::Result<()> {
    let length = usize::try_from(head.body).map_err(io::Error::other)?;
    if head.expects_continue && buffer.len() < length {
        stream.write(b"HTTP/1.1 100 Continue\r\n\r\n", false).await?;
    }
    while buffer.len() < length {
        if stream.read(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    buffer.drain(..length);
    Ok(())
}

/// Where the next request begins is not known: the connection ends with it.
async fn refuse(mut stream: Stream, bad: Bad) {
    let response = Response::text(bad.status, format!("{}\n", bad.why));
    let mut answer = response.head(false, SystemTime::now());
    if let Content::Text(text) = &response.content {
        answer.push_str(text);
    }
    if let Ok(Ok(())) = timeout(SHORT_LIMIT, stream.write(answer.as_bytes(), false)).await {
        stream.close(true).await;
    }
}

async fn respond(
    stream: &mut Stream,
    from: IpAddr,
    site: &Site,
    head: &Head,
    response: Response,
) -> Result<(), Broken> {
    let mut out = response.head(head.keep_alive, SystemTime::now());
    let with_body = head.method != Method::Head;
    let part = match response.content {
        Content::File(part) if with_body && part.start < part.end => Some(part),
        Content::Text(text) => {
            if with_body {
                out.push_str(&text);
            }
            None
        }
        Content::File(_) | Content::Nothing => None,
    };
    match timeout(SHORT_LIMIT, stream.write(out.as_bytes(), part.is_some())).await {
        Ok(written) => written.map_err(Broken::Client)?,
        Err(_) => return Err(Broken::Stalled),
    }
    let Some(part) = part else { return Ok(()) };

    let (name, bytes) = (part.name.clone(), part.end - part.start);
    let turn = (bytes > site.limits.large).then(|| site.admission.arrive(from));
    let mut transfer = Transfer {
        directory: Arc::clone(&site.files.directory),
        address: from,
        protocol: Protocol::Http,
        name: name.clone(),
        bytes,
        sent: 0,
        since: std::time::Instant::now(),
    };
    let waits = |place| site.files.note(from, None, Step::Waiting { name: name.clone(), place });
    let sent = send::send(stream, *part, turn, &mut transfer, waits).await;
    match &sent {
        Ok(()) | Err(Broken::Client(_)) => {}
        Err(broken @ Broken::Stalled) => {
            site.files.note(from, None, Step::Refused { what: format!("HTTP {name}: broken off, {broken}") });
        }
        // A person has to look after the disk, or to leave the file alone.
        Err(broken @ (Broken::Shorter | Broken::Changed | Broken::Read(_))) => {
            tracing::error!(
                error = broken as &dyn std::error::Error,
                "Sending {name} to {from} was broken off"
            );
            site.files.note(from, None, Step::Refused { what: format!("HTTP {name}: broken off, {broken}") });
        }
    }
    sent
}
