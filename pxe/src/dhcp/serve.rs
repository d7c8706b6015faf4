//! The loop around a DHCP server's sockets.
//!
//! One task: packets come in batches, what can be answered from memory is answered in the same batch, and only answers
//! that wait for a disk, or for an ARP probe, are kept as futures. A thousand machines that ask at once cost a thousand
//! small futures and no task.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    pin::Pin,
    sync::Arc,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Choice, Kind, Mode, Need, Port, Reply, Request, ServerFacts, Sockets, answer,
    conflict::{Finding, Probes},
    conflicting, lie, need, parse, proxy,
    socket::{BATCH, Inbox, ip, send_frames, send_packets},
};
use crate::{
    Assignment, Directory, MacAddr, Network, Note, Refused, Step, frame,
    step::{Client, Outcome},
};

/// Requests that wait for the directory or for a probe at a time. Past it packets are dropped, and clients ask again.
const AT_ONCE: usize = 4096;
/// Of these, what clients may have that the directory does not know: known machines boot in a flood of made-up ones.
const UNKNOWN_AT_ONCE: usize = AT_ONCE / 4 * 3;
/// Batches that are read before any of their packets is answered: more than a hall of a thousand machines sends when it
/// is switched on, which is no flood.
const ROUNDS: usize = 32;
/// Of packets that fill all of these, the unknown clients' that are answered. The rest is dropped unseen, so that the
/// kernel's buffer is emptied faster than it fills.
const UNKNOWN_IN_FLOOD: usize = BATCH * ROUNDS / 2;
/// Lines about bad packets in a second. What is more is left to the counter of the interface.
const BAD_NOTES: u32 = 100;

/// Answers until `shutdown` is cancelled.
pub async fn serve(
    sockets: Sockets,
    facts: ServerFacts,
    directory: Arc<dyn Directory>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let probes = match (&sockets.frames, &sockets.arp) {
        (Some((_, mac)), Some(_)) => Some(Probes::new(*mac)),
        _ => None,
    };
    let mut engine = Engine {
        sockets,
        facts,
        directory,
        probes,
        inbox: Inbox::new(),
        waiting: FuturesUnordered::new(),
        held: VecDeque::new(),
        busy: HashMap::new(),
        out: Vec::new(),
        frames: Vec::new(),
        bad: (Instant::now(), 0),
    };
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ready = engine.sockets.clients.readable() => {
                ready?;
                engine.receive(Port::Dhcp)?;
            }
            () = readable(engine.sockets.boot_server.as_ref()) => engine.receive(Port::BootServer)?,
            () = readable(engine.sockets.arp.as_ref()) => engine.listen(),
            Some(done) = engine.waiting.next(), if !engine.waiting.is_empty() => engine.finish(done),
            () = held_until(engine.held.front()) => engine.release(),
        }
        // A disk that was waited for mostly brings a whole group.
        while let Some(Some(done)) = engine.waiting.next().now_or_never() {
            engine.finish(done);
        }
        engine.flush().await;
    }
    Ok(())
}

async fn readable(socket: Option<&tokio::net::UdpSocket>) {
    match socket {
        // Reading tells what is wrong with it.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

async fn held_until(first: Option<&Held>) {
    match first {
        Some(held) => sleep_until(held.until).await,
        None => std::future::pending().await,
    }
}

struct Engine {
    sockets: Sockets,
    facts: ServerFacts,
    directory: Arc<dyn Directory>,
    probes: Option<Probes>,
    inbox: Inbox,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// Requests that wait for a probe, the first to be over in front.
    held: VecDeque<Held>,
    /// Whose requests are waiting, with their transaction: a client that asks again meanwhile has its answer coming.
    busy: HashMap<MacAddr, u32>,
    out: Vec<Outgoing>,
    /// Probes that leave with the next batch.
    frames: Vec<Vec<u8>>,
    /// Notes of bad packets since.
    bad: (Instant, u32),
}

struct Held {
    until: Instant,
    case: Case,
    assignment: Assignment,
}

/// A request with what has been found out for it.
struct Case {
    request: Request,
    network: Arc<Network>,
    known: bool,
}

/// What the directory was asked for, and said.
enum Done {
    /// An address for an OFFER.
    Offered(Case, Result<Assignment, Refused>),
    /// The address that an unknown client would be given, before it is written down.
    Foreseen(Case, Result<Assignment, Refused>),
    Committed(Case, Result<Assignment, Refused>),
    /// The client of a DECLINE, and the address that is its own.
    Declined(Case, Ipv4Addr, Result<Assignment, Refused>),
    Quarantined,
}

struct Outgoing {
    port: Port,
    request: Request,
    reply: Reply,
}

impl Engine {
    /// Takes what has come in on a port and answers what can be answered at once.
    fn receive(&mut self, port: Port) -> io::Result<()> {
        let mut known = Vec::with_capacity(BATCH);
        let mut unknown = Vec::new();
        let mut flood = true;
        for _ in 0..ROUNDS {
            let socket = match port {
                Port::Dhcp => &self.sockets.clients,
                Port::BootServer => match &self.sockets.boot_server {
                    Some(socket) => socket,
                    None => return Ok(()),
                },
            };
            let count = self.inbox.fill(socket)?;
            let mut bad = Vec::new();
            for (packet, from) in self.inbox.packets() {
                match parse(packet) {
                    Ok(mut request) => {
                        request.source = Some(from);
                        if self.facts.mode == Mode::Proxy || self.directory.knows(request.sight.mac) {
                            known.push(request);
                        } else {
                            unknown.push(request);
                        }
                    }
                    Err(error) => bad.push((from, error)),
                }
            }
            for (from, error) in bad {
                self.note_bad(from, &error.to_string());
            }
            if count < BATCH {
                flood = false;
                break;
            }
        }
        if flood && unknown.len() > UNKNOWN_IN_FLOOD {
            tracing::debug!("Dropped {} DHCP packets of unknown clients", unknown.len() - UNKNOWN_IN_FLOOD);
            unknown.truncate(UNKNOWN_IN_FLOOD);
        }
        for request in known {
            self.begin(port, request, true);
        }
        for request in unknown {
            self.begin(port, request, false);
        }
        Ok(())
    }

    fn begin(&mut self, port: Port, mut request: Request, known: bool) {
        let served = self.directory.network(None);
        if let Some(lie) = lie(&request, &self.facts, served.as_deref()) {
            return self.note(&request, Outcome::Silence { reason: lie });
        }
        if self.facts.mode == Mode::Proxy {
            let menu: Vec<Choice> = self.directory.menu(request.sight.mac);
            return self.answered(port, request, |request, facts| proxy::answer(request, facts, port, &menu));
        }
        // A renewal comes from beyond a router by itself, past the relay.
        let network = match (request.sight.link, served) {
            (None, Some(served)) if from_elsewhere(&request, &served) => {
                let there = self.directory.network(Some(request.ciaddr));
                request.sight.link = there.is_some().then_some(request.ciaddr);
                there.or(Some(served))
            }
            (None, served) => served,
            (link, _) => self.directory.network(link),
        };
        let need = need(&request, &self.facts, network.as_deref());
        let Some(network) = network else {
            let reason = match need {
                Need::Silence(reason) => reason,
                Need::Offer | Need::Commit | Need::Nothing | Need::Quarantine(_) => "no network".to_owned(),
            };
            return self.note(&request, Outcome::Silence { reason });
        };
        match need {
            Need::Silence(reason) => return self.note(&request, Outcome::Silence { reason }),
            Need::Nothing => {
                return self.answered(port, request, |request, facts| answer(request, facts, &network, None));
            }
            Need::Offer | Need::Commit | Need::Quarantine(_) => {}
        }
        let mac = request.sight.mac;
        if self.busy.get(&mac) == Some(&request.xid) && need == Need::Commit {
            return;
        }
        let places = if known { AT_ONCE } else { UNKNOWN_AT_ONCE };
        if self.waiting.len() + self.held.len() >= places {
            tracing::debug!("Dropped a DHCP packet of {mac}: {places} are being answered");
            return;
        }
        let case = Case { request, network, known };
        let directory = Arc::clone(&self.directory);
        match need {
            Need::Offer => self.wait(async move {
                let assigned = directory.offer(&case.request.sight).await;
                Done::Offered(case, assigned)
            }),
            Need::Commit if known => self.commit(case),
            Need::Commit => self.wait(async move {
                let assigned = directory.offer(&case.request.sight).await;
                Done::Foreseen(case, assigned)
            }),
            Need::Quarantine(address) => self.wait(async move {
                let assigned = directory.offer(&case.request.sight).await;
                Done::Declined(case, address, assigned)
            }),
            Need::Nothing | Need::Silence(_) => {}
        }
    }

    fn commit(&mut self, case: Case) {
        self.busy.insert(case.request.sight.mac, case.request.xid);
        let directory = Arc::clone(&self.directory);
        self.wait(async move {
            let assigned = directory.commit(&case.request.sight).await;
            Done::Committed(case, assigned)
        });
    }

    /// Goes on at once with what the directory answers from memory.
    fn wait(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        let mut work: Pin<Box<dyn Future<Output = Done> + Send>> = Box::pin(work);
        match (&mut work).now_or_never() {
            Some(done) => self.finish(done),
            None => self.waiting.push(work),
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Offered(case, assigned) => self.offered(case, assigned),
            Done::Foreseen(case, assigned) => self.foreseen(case, assigned),
            Done::Committed(case, assigned) => {
                self.busy.remove(&case.request.sight.mac);
                self.conclude(case, assigned);
            }
            Done::Declined(case, address, assigned) => self.declined(&case, address, assigned),
            Done::Quarantined => {}
        }
    }

    fn offered(&mut self, case: Case, assigned: Result<Assignment, Refused>) {
        if let Ok(assignment) = &assigned
            && !case.known
            && case.request.sight.link.is_none()
        {
            // What comes of it is asked for with the REQUEST.
            self.look(assignment.address, case.request.sight.mac);
        }
        self.conclude(case, assigned);
    }

    /// An unknown client's address, before it is committed: only the one that it asked for, and only a free one.
    fn foreseen(&mut self, case: Case, assigned: Result<Assignment, Refused>) {
        let Ok(assignment) = assigned else { return self.conclude(case, assigned) };
        let request = &case.request;
        let asked = request.sight.requested.unwrap_or(assignment.address);
        if asked != assignment.address {
            // What was offered may have been put away since, because somebody answered to it.
            let taken = self.probes.as_ref().and_then(|probes| probes.taken(asked));
            return match taken.filter(|other| *other != request.sight.mac) {
                Some(other) => self.conflict(case, asked, other),
                None => self.conclude(case, Ok(assignment)),
            };
        }
        let finding =
            if request.sight.link.is_some() { Finding::Free } else { self.look(asked, request.sight.mac) };
        match finding {
            Finding::Free => self.commit(case),
            Finding::Taken(other) => self.conflict(case, asked, other),
            Finding::Later(until) => {
                self.busy.insert(request.sight.mac, request.xid);
                // All wait equally long but those whose OFFER came first.
                let place = self.held.partition_point(|held| held.until <= until);
                self.held.insert(place, Held { until, case, assignment });
            }
        }
    }

    fn look(&mut self, address: Ipv4Addr, client: MacAddr) -> Finding {
        let Some(probes) = &mut self.probes else { return Finding::Free };
        let (finding, frame) = probes.look(address, client, Instant::now());
        self.frames.extend(frame.map(|frame| frame.to_vec()));
        finding
    }

    /// Goes on with requests whose probes are over.
    fn release(&mut self) {
        let now = Instant::now();
        while self.held.front().is_some_and(|held| held.until <= now) {
            let Some(Held { case, assignment, .. }) = self.held.pop_front() else { return };
            self.busy.remove(&case.request.sight.mac);
            self.foreseen(case, Ok(assignment));
        }
    }

    /// Hears ARP.
    fn listen(&mut self) {
        let Some(socket) = &self.sockets.arp else { return };
        let mut frame = [0; 64];
        let mut taken = Vec::new();
        // Bounded, as everything on a LAN is heard here.
        for _ in 0..BATCH * ROUNDS {
            match socket.try_recv(&mut frame) {
                Ok(length) => {
                    taken.extend(self.probes.as_mut().and_then(|probes| probes.heard(&frame[..length])));
                }
                Err(_) => break,
            }
        }
        for (address, other, client) in taken {
            tracing::warn!("{other} answers to {address}, which was to be {client}'s");
            self.quarantine(client, address);
        }
    }

    fn quarantine(&mut self, client: MacAddr, address: Ipv4Addr) {
        let directory = Arc::clone(&self.directory);
        self.wait(async move {
            directory.quarantine(client, address).await;
            Done::Quarantined
        });
    }

    fn conflict(&mut self, case: Case, address: Ipv4Addr, other: MacAddr) {
        self.answered(Port::Dhcp, case.request, |request, facts| conflicting(request, facts, address, other));
    }

    /// Only a client's own address is put away for it: nobody can talk others out of theirs.
    fn declined(&mut self, case: &Case, address: Ipv4Addr, assigned: Result<Assignment, Refused>) {
        let request = &case.request;
        let own = assigned.is_ok_and(|assignment| assignment.address == address);
        let reason = if own {
            format!("declined {address}: another machine answers to it")
        } else {
            format!("declined {address}, which is not its own")
        };
        self.note(request, Outcome::Silence { reason });
        if own {
            self.quarantine(request.sight.mac, address);
        }
    }

    fn conclude(&mut self, case: Case, assigned: Result<Assignment, Refused>) {
        let Case { request, network, .. } = case;
        match assigned {
            Ok(assignment) => self.answered(Port::Dhcp, request, |request, facts| {
                answer(request, facts, &network, Some(&assignment))
            }),
            Err(refused) => self.note(&request, Outcome::Failed { reason: refused.to_string() }),
        }
    }

    fn answered(
        &mut self,
        port: Port,
        request: Request,
        make: impl FnOnce(&Request, &ServerFacts) -> Answer,
    ) {
        match make(&request, &self.facts) {
            Answer::Reply(reply) => self.out.push(Outgoing { port, request, reply }),
            Answer::Silence(reason) => self.note(&request, Outcome::Silence { reason }),
        }
    }

    /// Sends what is ready, and notes it.
    async fn flush(&mut self) {
        if !self.frames.is_empty() {
            let probes = std::mem::take(&mut self.frames);
            if let Some((socket, _)) = &self.sockets.frames {
                // A probe that is lost is one that nobody answers.
                send_frames(socket, &probes).await;
            }
        }
        if self.out.is_empty() {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        self.send_by_hand(&mut out).await;
        let mut results: Vec<Option<io::Result<()>>> = out.iter().map(|_| None).collect();
        for port in [Port::Dhcp, Port::BootServer] {
            let socket = match port {
                Port::Dhcp => Some(&self.sockets.clients),
                Port::BootServer => self.sockets.boot_server.as_ref(),
            };
            let Some(socket) = socket else { continue };
            let mine = |outgoing: &Outgoing| outgoing.port == port && outgoing.reply.hardware.is_none();
            let places: Vec<usize> = (0..out.len()).filter(|place| mine(&out[*place])).collect();
            let packets: Vec<(&[u8], SocketAddrV4)> = places
                .iter()
                .map(|place| (out[*place].reply.packet.as_slice(), out[*place].reply.to))
                .collect();
            let sent = send_packets(socket, self.facts.address, &packets).await;
            for (place, result) in places.into_iter().zip(sent) {
                results[place] = Some(result);
            }
        }
        for (Outgoing { request, reply, .. }, result) in out.into_iter().zip(results) {
            let outcome = match result {
                None | Some(Ok(())) => reply.outcome,
                Some(Err(error)) => {
                    tracing::warn!("Sending a DHCP reply to {}: {error}", reply.to);
                    Outcome::Failed {
                        reason: format!("{}, but sending it to {} failed: {error}", reply.outcome, reply.to),
                    }
                }
            };
            self.note(&request, outcome);
        }
    }

    /// Sends what goes to machines that have no address yet; what cannot be sent so is left for everybody.
    async fn send_by_hand(&mut self, out: &mut [Outgoing]) {
        let places: Vec<usize> =
            (0..out.len()).filter(|place| out[*place].reply.hardware.is_some()).collect();
        if places.is_empty() {
            return;
        }
        let mut failed: Vec<usize> = Vec::new();
        if let Some((socket, own)) = &self.sockets.frames {
            let from = SocketAddrV4::new(self.facts.address, 67);
            let frames: Vec<Vec<u8>> = places
                .iter()
                .filter_map(|place| {
                    let reply = &out[*place].reply;
                    Some(frame::udp((*own, from), (reply.hardware?, reply.to), &reply.packet))
                })
                .collect();
            let sent = send_frames(socket, &frames).await;
            for (place, result) in places.into_iter().zip(sent) {
                if let Err(error) = result {
                    tracing::debug!("A frame to {}: {error}; it goes to everybody", out[place].reply.to);
                    failed.push(place);
                }
            }
        } else {
            failed = places;
        }
        for place in failed {
            out[place].reply.hardware = None;
            out[place].reply.to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        }
    }

    fn note(&self, request: &Request, outcome: Outcome) {
        let client = request.client();
        // Beside another server, everybody else's packets come by too.
        if self.facts.mode == Mode::Proxy && matches!(client, Client::System(_)) {
            return;
        }
        // Who goes to another server and with which address: files that it asks for later come from there.
        let outcome = match (outcome, request.server) {
            (Outcome::Silence { .. }, Some(server))
                if request.kind == Kind::Request
                    && server != self.facts.address
                    && request.agent.server != Some(server) =>
            {
                Outcome::Elsewhere { server, address: request.requested }
            }
            (outcome, _) => outcome,
        };
        let step = Step::Dhcp { packet: request.kind, client, outcome };
        tracing::trace!("{}: {step}", request.sight.mac);
        self.directory.note(Note { mac: Some(request.sight.mac), address: None, step });
    }

    fn note_bad(&mut self, from: SocketAddrV4, what: &str) {
        tracing::trace!("DHCP packet from {from}: {what}");
        let (since, count) = &mut self.bad;
        if since.elapsed().as_secs() > 0 {
            self.bad = (Instant::now(), 1);
        } else if *count >= BAD_NOTES {
            return;
        } else {
            *count += 1;
        }
        let step = Step::Refused { what: what.to_owned() };
        self.directory.note(Note { mac: None, address: Some(ip(from)), step });
    }
}

/// Whether a packet came by itself from a network that is not served directly: its sender says where it is.
fn from_elsewhere(request: &Request, served: &Network) -> bool {
    matches!(request.kind, Kind::Request | Kind::Inform | Kind::Release)
        && !request.ciaddr.is_unspecified()
        && !served.subnet.contains(&request.ciaddr)
        && request.source.is_some_and(|source| *source.ip() == request.ciaddr)
}
