//! A host that is cut off restarts by itself. Nothing runs on it afterwards until the appliance has spoken: what ran
//! here may run elsewhere by then.
//!
//! Cut off is a host that reaches nobody: neither the appliance nor any other host. An appliance that is off is no reason.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fleet::wire::{Alone, Desired};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::client::PORT;
use crate::console;

/// Between two looks around.
const PAUSE: Duration = Duration::from_secs(10);
/// A neighbour that is there answers in milliseconds; one SYN may be lost.
const ANSWER: Duration = Duration::from_secs(4);
/// Every host has a way in for people. Whether it is let in does not matter: an answer is an answer.
const SSH_PORT: u16 = 22;
/// A restart that hangs at a disk is done without it.
const ORDERLY: Duration = Duration::from_secs(60);

/// Looks around for ever, and restarts this machine when it has been alone for too long.
pub async fn watch(desired: watch::Receiver<Option<Desired>>, appliance: Ipv4Addr) {
    let (mut lonely, begun) = (Lonely::default(), Instant::now());
    loop {
        let alone = desired.borrow().as_ref().and_then(|desired| desired.alone.clone());
        match alone {
            Some(alone) => {
                let reached = reaches_anybody(&places(appliance, &alone)).await;
                if lonely.look(reached, alone.after_secs, begun.elapsed()) {
                    restart().await;
                }
            }
            None => lonely = Lonely::default(),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn places(appliance: Ipv4Addr, alone: &Alone) -> Vec<SocketAddr> {
    let neighbours = alone.neighbours.iter().map(|neighbour| SocketAddr::from((*neighbour, SSH_PORT)));
    neighbours.chain([SocketAddr::from((appliance, PORT))]).collect()
}

/// Since when nobody answers.
#[derive(Debug, Default)]
pub struct Lonely {
    since: Option<Duration>,
}

impl Lonely {
    /// Whether it has lasted too long; `now` is counted from any beginning.
    pub fn look(&mut self, reached: bool, after_secs: u64, now: Duration) -> bool {
        if reached {
            if self.since.take().is_some() {
                info!("Somebody answers again");
            }
            return false;
        }
        let since = *self.since.get_or_insert_with(|| {
            warn!("Neither the appliance nor another host answers; this host restarts if it stays so for {after_secs} s");
            now
        });
        now.saturating_sub(since) >= Duration::from_secs(after_secs)
    }
}

/// Whether anything at one of these places answers, be it by a refusal.
async fn reaches_anybody(places: &[SocketAddr]) -> bool {
    let mut asked = JoinSet::new();
    for place in places {
        asked.spawn(tokio::time::timeout(ANSWER, TcpStream::connect(*place)));
    }
    while let Some(answer) = asked.join_next().await {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if let Ok(Ok(connected)) = answer
            && (connected.is_ok() || connected.is_err_and(|error| refused(&error)))
        {
            return true;
        }
    }
    false
}

async fn restart() {
    error!("Cut off from the appliance and from all other hosts: restarting");
    console::use_all();
    console::say("This host is cut off from the appliance and from all others, and restarts.");
    if let Err(error) = tokio::process::Command::new("systemctl").args(["reboot", "--force"]).status().await {
        warn!("systemctl cannot restart this machine: {error}");
    }
    tokio::time::sleep(ORDERLY).await;
    let Err(error) = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    error!("This machine does not restart: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_is_too_long() {
        let (mut lonely, at) = (Lonely::default(), Duration::from_secs);
        assert!(!lonely.look(false, 90, at(0)));
        assert!(!lonely.look(false, 90, at(89)));
        assert!(!lonely.look(true, 90, at(90)), "somebody answers");
        assert!(!lonely.look(false, 90, at(100)), "it begins anew");
        assert!(!lonely.look(false, 90, at(189)));
        assert!(lonely.look(false, 90, at(190)));
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_silence_is_none() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = closed.local_addr().unwrap();
        drop(closed);
        let silent = Silent::new();
        assert!(reaches_anybody(&[silent.place, open.local_addr().unwrap()]).await);
        assert!(reaches_anybody(&[silent.place, refusing]).await);
        assert!(!reaches_anybody(&[silent.place]).await);
        assert!(!reaches_anybody(&[]).await);
    }

    /// Takes no further connection and says nothing to those who ask for one.
    struct Silent {
        place: SocketAddr,
        _listener: socket2::Socket,
        _waiting: Vec<socket2::Socket>,
    }

    impl Silent {
        fn new() -> Silent {
            let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let listener = socket();
            listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
            listener.listen(0).unwrap();
            let place = listener.local_addr().unwrap().as_socket().unwrap();
            let waiting = (0..4).map(|_| {
                let waiting = socket();
                waiting.set_nonblocking(true).unwrap();
                // It goes on by itself.
                let _ = waiting.connect(&place.into());
                waiting
            });
            Silent { place, _waiting: waiting.collect(), _listener: listener }
        }
    }
}
