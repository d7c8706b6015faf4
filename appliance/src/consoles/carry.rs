//! A console between a browser's WebSocket and its line, for as long as it may be.
//!
//! | message | from the appliance | from the browser |
//! |---|---|---|
//! | binary | what the console shows | what is typed |
//! | text | `open`, once; `end WHY` before a close that has no room for it | what is typed |
//! | close | 1000 and why, or 4000 and what is wrong | it is over |

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use fleet::user::Role;
use fleet::{MachineId, NodeId, VmId};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::Line;
use crate::api::guard;
use crate::{App, core};

/// A message from a browser is a few keys, or something pasted.
pub const LONGEST_MESSAGE: usize = 64 << 10;
const PIECE: usize = 16 << 10;

/// How often it is looked at whether a console may go on.
const LOOK: Duration = Duration::from_secs(2);
/// A browser that says nothing is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// What does not take what it is sent for so long is gone.
const STUCK: Duration = Duration::from_secs(20);
/// Nothing was typed for so long.
const IDLE: Duration = Duration::from_secs(3600);
/// A host that is silent for so long has lost its power, or its way here.
const SILENT_MS: u64 = 60_000;

/// RFC 6455, 7.4.1 and 7.4.2.
const DONE: u16 = 1000;
const TROUBLE: u16 = 4000;
/// What a close frame has room for beside its number.
const LONGEST_REASON: usize = 123;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    Vm(VmId, MachineId),
    Machine(MachineId),
}

/// Who looks.
pub struct Viewer {
    /// The least that he must be for this; less than an operator types nothing.
    pub needs: Role,
    /// Of the session; what it may do is looked at again and again.
    pub token: String,
    /// As timelines name him.
    pub name: String,
}

/// Why a console ends.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    code: u16,
    pub why: String,
}

impl End {
    fn done(why: &str) -> End {
        End { code: DONE, why: why.to_owned() }
    }

    pub fn trouble(why: impl Into<String>) -> End {
        End { code: TROUBLE, why: why.into() }
    }
}

/// Carries until one side ends it or it may not go on, and tells the timeline.
pub async fn carry(
    app: &App,
    socket: WebSocket,
    line: Box<dyn Line>,
    (shown, what): (Shown, &str),
    viewer: &Viewer,
) {
    let subject = match shown {
        Shown::Vm(vm, _) => vm.to_string(),
        Shown::Machine(machine) => machine.to_string(),
    };
    // Who only reads does nothing to it.
    let types = viewer.needs >= Role::Operator;
    if types {
        app.core.note(&subject, "console", format!("{} opened its {what} console", viewer.name));
    }
    let begun = Instant::now();
    let (mut sink, stream) = socket.split();
    let (from_line, to_line) = tokio::io::split(line);
    let typed = Typed { begun, at: AtomicU64::new(0) };
    let end = tokio::select! {
        end = show(from_line, &mut sink) => end,
        end = take(stream, to_line, &typed, types) => end,
        end = limit(app, shown, viewer, &typed) => end,
    };
    close(&mut sink, &end).await;
    if types {
        let secs = begun.elapsed().as_secs();
        let sentence = format!("{}'s {what} console ended after {secs} s: {}", viewer.name, end.why);
        app.core.note(&subject, "console", sentence);
    }
}

/// Tells a browser why it gets no console.
pub async fn refuse(socket: WebSocket, end: End) {
    let (mut sink, _) = socket.split();
    close(&mut sink, &end).await;
}

/// When something was typed last.
struct Typed {
    begun: Instant,
    /// Milliseconds after the beginning.
    at: AtomicU64,
}

impl Typed {
    fn now(&self) {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(after, Ordering::Relaxed);
    }

    fn since(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.at.load(Ordering::Relaxed)))
    }
}

async fn show(mut line: ReadHalf<Box<dyn Line>>, sink: &mut SplitSink<WebSocket, Message>) -> End {
    if let Err(end) = send(sink, Message::text("open")).await {
        return end;
    }
    let mut piece = vec![0; PIECE];
    loop {
        let message = match tokio::time::timeout(PING, line.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return End::done("the machine or its host closed it"),
            Ok(Ok(length)) => Message::Binary(Bytes::copy_from_slice(&piece[..length])),
            Err(_) => Message::Ping(Bytes::new()),
        };
        if let Err(end) = send(sink, message).await {
            return end;
        }
    }
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), End> {
    match tokio::time::timeout(STUCK, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::done("the browser went away")),
        Err(_) => Err(End::trouble("the browser did not take what it was shown")),
    }
}

async fn take(
    mut stream: SplitStream<WebSocket>,
    mut line: WriteHalf<Box<dyn Line>>,
    typed: &Typed,
    types: bool,
) -> End {
    while let Some(message) = stream.next().await {
        let bytes = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return End::done("the browser closed it"),
            Err(error) => return End::trouble(format!("the browser broke the connection: {error}")),
        };
        if !types {
            continue;
        }
        typed.now();
        match tokio::time::timeout(STUCK, line.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::done("the machine or its host closed it"),
            Err(_) => return End::trouble("the machine did not take what was typed"),
        }
    }
    End::done("the browser went away")
}

/// Ends when the console may not go on.
async fn limit(app: &App, shown: Shown, viewer: &Viewer, typed: &Typed) -> End {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(why) = over(app, shown, viewer).await {
            return End::trouble(why);
        }
        if viewer.needs >= Role::Operator && typed.since() > IDLE {
            return End::trouble(format!("nothing was typed for {} minutes", IDLE.as_secs() / 60));
        }
    }
}

async fn over(app: &App, shown: Shown, viewer: &Viewer) -> Option<String> {
    match guard::of_token(app, &viewer.token).await {
        Ok(Some((_, role, _))) if role < viewer.needs => {
            return Some(format!("this takes {}", viewer.needs.with_article()));
        }
        Ok(None) => return Some("the session is over".to_owned()),
        // While the database is away, who was let in stays.
        Ok(Some(_)) | Err(_) => {}
    }
    let fleet = app.core.fleet();
    match shown {
        Shown::Machine(machine) => {
            (!fleet.machines.contains_key(&machine)).then(|| "the machine was removed".to_owned())
        }
        Shown::Vm(vm, host) => match fleet.vms.get(&vm) {
            None => Some("the VM was removed".to_owned()),
            Some(vm) if vm.host != host => Some("the VM is on another host now".to_owned()),
            Some(_) => {
                let observed = app.core.observed();
                let heard = observed.get(&NodeId::Machine(host))?.at;
                let silent = core::now().0.saturating_sub(heard.0) > SILENT_MS;
                silent.then(|| "its host is silent".to_owned())
            }
        },
    }
}

async fn close(sink: &mut SplitSink<WebSocket, Message>, end: &End) {
    let mut reason = end.why.as_str();
    let mut messages = Vec::new();
    if reason.len() > LONGEST_REASON {
        messages.push(Message::text(format!("end {reason}")));
    }
    while reason.len() > LONGEST_REASON {
        reason = &reason[..reason.floor_char_boundary(reason.len() - 1)];
    }
    let frame = CloseFrame { code: end.code, reason: reason.into() };
    messages.push(Message::Close(Some(frame)));
    for message in messages {
        // Who does not take this either learns it from the connection.
        let _ = tokio::time::timeout(Duration::from_secs(2), sink.send(message)).await;
    }
}
