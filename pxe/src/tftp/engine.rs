//! All transfers of a server: packets and the time in, what to send and to note out. No sockets, no files, no clock.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    parse::{self, Mode, NoRequest, Reply, Request},
    transfer::{Terms, Transfer, Turn},
};
use crate::{
    Step,
    folder::NoFile,
    step::{Protocol, Sent},
};

/// A transfer takes some hundred bytes here, so this is for the sake of the wire.
const MOST: usize = 16_384;

/// So that one address cannot take all of them. Firmware has one or two at once; this leaves room for many machines
/// behind one router that translates addresses.
const MOST_OF_ONE: u16 = 256;

/// Lines for timelines about what was not given, in one second. GRUB and shim look for half a dozen files that need
/// not be there, so a thousand machines at once stay below it; whoever only makes noise does not fill the log.
const MOST_REFUSALS_A_SECOND: u32 = 1000;

/// Error codes of RFC 1350, section 5.
const NOT_DEFINED: u8 = 0;
const NOT_FOUND: u8 = 1;
const ACCESS: u8 = 2;
const ILLEGAL: u8 = 4;

/// Where the files come from.
pub trait Shelf {
    type Content: Clone;

    /// What is sent for `name`, and its size.
    fn open(&mut self, name: &str) -> Result<(Self::Content, u64), NoFile>;

    /// The largest block that reaches this client in one frame.
    fn largest_block(&self, client: IpAddr) -> u16;
}

/// One of our sockets and the client on the other side: RFC 1350's pair of transfer identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    pub socket: u8,
    pub client: SocketAddr,
}

/// What the sockets have to do.
#[derive(Debug, PartialEq)]
pub enum Action<C> {
    Packet {
        link: Link,
        bytes: Vec<u8>,
    },
    /// `count` blocks of `content` from number `first`, which is counted from 1.
    Blocks {
        link: Link,
        content: C,
        size: u64,
        block: u16,
        first: u64,
        count: u16,
    },
    Note {
        client: IpAddr,
        step: Step,
    },
}

/// The transfers of one server. `sockets` are those that transfers are sent from, numbered from 0.
pub struct Engine<C> {
    sockets: u8,
    transfers: HashMap<Link, Entry<C>>,
    /// The transfer that a client's port began last.
    by_client: HashMap<SocketAddr, Link>,
    per_address: HashMap<IpAddr, u16>,
    due: BTreeSet<(Instant, Link)>,
    next_socket: u8,
    refusals: (Option<Instant>, u32),
    pub actions: Vec<Action<C>>,
}

struct Entry<C> {
    transfer: Transfer,
    content: C,
    name: String,
    size: u64,
    oack: Option<Vec<u8>>,
    asked_size: bool,
    since: Instant,
    /// As it stands in `due`: when it is to be looked at, which may be sooner than something is due, never later.
    due: Instant,
}

/// Why a transfer ended before its end.
enum Cause {
    Client(String),
    Silence,
    /// Something here.
    Server(String),
}

impl<C: Clone> Engine<C> {
    pub fn new(sockets: u8) -> Self {
        Self {
            sockets,
            transfers: HashMap::new(),
            by_client: HashMap::new(),
            per_address: HashMap::new(),
            due: BTreeSet::new(),
            next_socket: 0,
            refusals: (None, 0),
            actions: Vec::new(),
        }
    }

    /// How many transfers are under way.
    pub fn under_way(&self) -> usize {
        self.transfers.len()
    }

    /// Takes a packet that came to the server's port.
    pub fn request(
        &mut self,
        client: SocketAddr,
        packet: &[u8],
        shelf: &mut impl Shelf<Content = C>,
        now: Instant,
    ) {
        let link = Link { socket: self.next_socket, client };
        // Two transfers one after the other, from one port of a client, come from two of ours, so that what is late of
        // the first cannot be taken for the second's (RFC 1350, section 4).
        self.next_socket = (self.next_socket + 1) % self.sockets;
        let request = match parse::request(packet) {
            Ok(request) => request,
            Err(NoRequest::Other) => return,
            Err(why) => {
                let code = if why == NoRequest::Write { ACCESS } else { ILLEGAL };
                self.error(link, code, &why.to_string());
                let what = format!("TFTP: {why}: {:?}", beginning(packet));
                return self.refused(client.ip(), Step::Refused { what }, now);
            }
        };
        if let Some(&before) = self.by_client.get(&client) {
            let Some(entry) = self.transfers.get_mut(&before) else { return };
            if entry.name == request.name && !entry.transfer.heard() {
                // The request once more: our answer was lost, or it is still under way.
                if now >= entry.transfer.sent_at() + Duration::from_millis(100) {
                    let turn = entry.transfer.again(now);
                    self.take(before, turn, now);
                }
                return;
            }
            self.end(before, Cause::Client("it began another transfer".to_owned()), now);
        }
        self.begin(link, &request, shelf, now);
    }

    fn begin(
        &mut self,
        link: Link,
        request: &Request<'_>,
        shelf: &mut impl Shelf<Content = C>,
        now: Instant,
    ) {
        let client = link.client.ip();
        let refuse = |code, sent: Sent, words: &str, engine: &mut Self| {
            engine.error(link, code, words);
            let name = format!("{:?}", request.name);
            engine.refused(client, Step::File { protocol: Protocol::Tftp, name, sent }, now);
        };
        let refused = |reason: &str| Sent::Refused { reason: reason.to_owned() };
        if request.mode == Mode::Other {
            let words = "only octet (binary) transfers: files are sent as they are";
            return refuse(NOT_DEFINED, refused(words), words, self);
        }
        if self.transfers.len() >= MOST
            || self.per_address.get(&client).is_some_and(|count| *count >= MOST_OF_ONE)
        {
            let words = "too many transfers at once";
            return refuse(NOT_DEFINED, refused(words), words, self);
        }
        let (content, size) = match shelf.open(&request.name) {
            Ok(opened) => opened,
            Err(error) => {
                let (code, sent) = match error {
                    // GRUB looks for half a dozen files that need not be there; that is no refusal.
                    NoFile::Missing => (NOT_FOUND, Sent::Missing),
                    NoFile::Outside => (ACCESS, refused(&error.sentence())),
                    NoFile::Io(_) => (NOT_DEFINED, refused(&error.sentence())),
                };
                return refuse(code, sent, &error.to_string(), self);
            }
        };
        let (terms, oack) = Terms::agree(&request.options, size, shelf.largest_block(client));
        let (transfer, turn) = Transfer::begin(terms, size, oack.is_some(), now);
        let due = transfer.due();
        let entry = Entry {
            transfer,
            content,
            name: request.name.clone().into_owned(),
            size,
            oack,
            asked_size: request.options.size,
            since: now,
            due,
        };
        self.transfers.insert(link, entry);
        self.by_client.insert(link.client, link);
        *self.per_address.entry(client).or_default() += 1;
        self.due.insert((due, link));
        self.take(link, turn, now);
    }

    /// Takes a packet that came to one of the transfers' sockets.
    pub fn reply(&mut self, link: Link, packet: &[u8], now: Instant) {
        let Some(entry) = self.transfers.get_mut(&link) else {
            // RFC 1350, section 4: an unknown transfer gets an error. Here it gets nothing, because what is late of a
            // transfer that has ended is nothing to tell anybody.
            return;
        };
        match parse::reply(packet) {
            Some(Reply::Ack(number)) => {
                let turn = entry.transfer.acknowledged(number, now);
                self.take(link, turn, now);
            }
            Some(Reply::Error(words)) => {
                let words = String::from_utf8_lossy(&words[..words.len().min(200)]).into_owned();
                self.end(link, Cause::Client(words), now);
            }
            None => {}
        }
    }

    /// When [`Self::silence`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Does what is due.
    pub fn silence(&mut self, now: Instant) {
        while let Some(&(due, link)) = self.due.first()
            && due <= now
        {
            let Some(entry) = self.transfers.get_mut(&link) else {
                self.due.pop_first();
                continue;
            };
            let turn = entry.transfer.silence(now);
            self.take(link, turn, now);
            self.due.remove(&(due, link));
            if let Some(entry) = self.transfers.get_mut(&link) {
                entry.due = entry.transfer.due();
                self.due.insert((entry.due, link));
            }
        }
    }

    /// Ends a transfer whose file cannot be read any more.
    pub fn unreadable(&mut self, link: Link, why: &str, now: Instant) {
        self.error(link, NOT_DEFINED, "the file cannot be read");
        self.end(link, Cause::Server(why.to_owned()), now);
    }

    fn take(&mut self, link: Link, turn: Turn, now: Instant) {
        let Some(entry) = self.transfers.get_mut(&link) else { return };
        match turn {
            Turn::Wait => {}
            Turn::Offer => {
                let bytes = entry.oack.clone().unwrap_or_default();
                self.actions.push(Action::Packet { link, bytes });
            }
            Turn::Send { first, count } => {
                let block = entry.transfer.terms().block;
                let (content, size) = (entry.content.clone(), entry.size);
                self.actions.push(Action::Blocks { link, content, size, block, first, count });
            }
            Turn::Done => {
                let step = Sent::Whole { bytes: entry.size, took: now.duration_since(entry.since) };
                return self.remove(link, step);
            }
            Turn::GiveUp => {
                // The client may be there and have lost our packets: it learns that nobody waits for it.
                self.error(link, NOT_DEFINED, "no acknowledgment for too long");
                return self.end(link, Cause::Silence, now);
            }
        }
        // With every acknowledgment it is due later. It is looked at when it was due before, and put off then.
        let due = entry.transfer.due();
        if due < entry.due {
            self.due.remove(&(entry.due, link));
            self.due.insert((due, link));
            entry.due = due;
        }
    }

    fn end(&mut self, link: Link, cause: Cause, now: Instant) {
        let Some(entry) = self.transfers.get(&link) else { return };
        let (bytes, took) = (entry.size, now.duration_since(entry.since));
        let arrived = entry.transfer.arrived();
        let sent = match cause {
            // EDK2 and PXE ROMs ask for the size, break off, and ask again for the file.
            Cause::Client(_) if entry.asked_size && arrived == 0 => Sent::SizeOnly,
            Cause::Client(words) => Sent::BrokenOff { sent: arrived, bytes, took, words },
            // A ROM that starts the program at once does not acknowledge its end.
            Cause::Silence if entry.transfer.all_sent() => Sent::Part { sent: bytes, bytes, took },
            Cause::Silence => Sent::Part { sent: arrived, bytes, took },
            Cause::Server(reason) => Sent::Refused { reason },
        };
        self.remove(link, sent);
    }

    fn remove(&mut self, link: Link, sent: Sent) {
        let Some(entry) = self.transfers.remove(&link) else { return };
        self.due.remove(&(entry.due, link));
        if self.by_client.get(&link.client) == Some(&link) {
            self.by_client.remove(&link.client);
        }
        let client = link.client.ip();
        if let Some(count) = self.per_address.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&client);
            }
        }
        let step = Step::File { protocol: Protocol::Tftp, name: entry.name, sent };
        self.actions.push(Action::Note { client, step });
    }

    fn error(&mut self, link: Link, code: u8, words: &str) {
        let bytes = [&[0, 5, 0, code], words.as_bytes(), &[0]].concat();
        self.actions.push(Action::Packet { link, bytes });
    }

    fn refused(&mut self, client: IpAddr, step: Step, now: Instant) {
        let (since, count) = &mut self.refusals;
        if since.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            (*since, *count) = (Some(now), 0);
        }
        *count += 1;
        if *count <= MOST_REFUSALS_A_SECOND {
            self.actions.push(Action::Note { client, step });
        } else if *count == MOST_REFUSALS_A_SECOND + 1 {
            tracing::warn!("TFTP: {client} and others ask for more that is not given than is noted");
        }
    }
}

/// Enough of a packet to recognise it by.
fn beginning(packet: &[u8]) -> String {
    String::from_utf8_lossy(&packet[2..packet.len().min(66)]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One file, `f`, of 10,000 bytes.
    struct One;

    impl Shelf for One {
        type Content = ();

        fn open(&mut self, name: &str) -> Result<((), u64), NoFile> {
            match name {
                "f" => Ok(((), 10_000)),
                "out" => Err(NoFile::Outside),
                _ => Err(NoFile::Missing),
            }
        }

        fn largest_block(&self, _: IpAddr) -> u16 {
            1468
        }
    }

    fn client(port: u16) -> SocketAddr {
        ([10, 77, 1, 9], port).into()
    }

    fn request(engine: &mut Engine<()>, port: u16, packet: &[u8], now: Instant) -> Vec<Action<()>> {
        engine.request(client(port), packet, &mut One, now);
        std::mem::take(&mut engine.actions)
    }

    fn notes(actions: &[Action<()>]) -> Vec<String> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Note { step, .. } => Some(step.to_string()),
                Action::Packet { .. } | Action::Blocks { .. } => None,
            })
            .collect()
    }

    const PLAIN: &[u8] = b"\0\x01f\0octet\0";

    #[test]
    fn a_request_that_comes_again_is_the_same_transfer() {
        let start = Instant::now();
        let mut engine = Engine::new(4);
        let first = request(&mut engine, 2070, PLAIN, start);
        let Action::Blocks { link, first: 1, count: 1, .. } = first[0] else { panic!("{first:?}") };
        // Doubled on the way; lost and repeated.
        assert_eq!(request(&mut engine, 2070, PLAIN, start), []);
        assert_eq!(request(&mut engine, 2070, PLAIN, start + Duration::from_secs(1)), first);
        assert_eq!(engine.under_way(), 1);
        // The client has data, and begins anew: another transfer, from another port of ours.
        engine.reply(link, &[0, 4, 0, 1], start);
        engine.actions.clear();
        let anew = request(&mut engine, 2070, PLAIN, start);
        assert_eq!(
            notes(&anew),
            [
                "TFTP f: broken off by the client after 512 of 10000 bytes, 0.0 s: \"it began another transfer\""
            ]
        );
        let Some(Action::Blocks { link: other, first: 1, .. }) = anew.last() else { panic!("{anew:?}") };
        assert_ne!(link.socket, other.socket);
        // What is late of the first one does nothing.
        engine.reply(link, &[0, 4, 0, 1], start);
        assert_eq!(engine.actions, []);
        assert_eq!(engine.under_way(), 1);
    }

    #[test]
    fn silence_ends_with_an_error_and_a_note() {
        let mut now = Instant::now();
        let mut engine = Engine::new(4);
        request(&mut engine, 2070, PLAIN, now);
        let mut all = Vec::new();
        while let Some(due) = engine.next_due() {
            now = due;
            engine.silence(now);
            all.append(&mut engine.actions);
        }
        let blocks = all.iter().filter(|action| matches!(action, Action::Blocks { .. })).count();
        assert_eq!(blocks, 6);
        assert_eq!(notes(&all), ["TFTP f: ended after 0 of 10000 bytes, 39.0 s"]);
        assert_eq!(engine.under_way(), 0);
        assert!(engine.by_client.is_empty() && engine.per_address.is_empty() && engine.due.is_empty());
    }

    #[test]
    fn one_address_has_its_share_and_gets_it_back() {
        let now = Instant::now();
        let mut engine = Engine::new(4);
        for port in 0..300 {
            request(&mut engine, port, PLAIN, now);
        }
        assert_eq!(engine.under_way(), 256);
        // Others are not touched by that.
        engine.request(([10, 77, 1, 10], 1).into(), PLAIN, &mut One, now);
        assert_eq!(engine.under_way(), 257);
        let links: Vec<Link> = engine.due.iter().map(|(_, link)| *link).collect();
        for link in links {
            engine.reply(link, b"\0\x05\0\0bye\0", now);
        }
        assert_eq!(engine.under_way(), 0);
        assert!(engine.by_client.is_empty() && engine.per_address.is_empty() && engine.due.is_empty());
    }

    #[test]
    fn noise_does_not_fill_the_log() {
        let now = Instant::now();
        let mut engine = Engine::new(4);
        let noted = (0..5000)
            .map(|_| notes(&request(&mut engine, 1, b"\0\x01out\0octet\0", now)).len())
            .sum::<usize>();
        assert_eq!(noted, 1000);
        // Every one gets its answer all the same, and a second later lines are written again.
        let later = request(&mut engine, 1, b"\0\x01../x\0octet\0", now + Duration::from_secs(1));
        assert_eq!(later.len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever comes, in whichever order: nothing is left behind, and blocks stay within the file.
        #[test]
        fn any_packets_leave_it_sound(
            packets in proptest::collection::vec(
                (0_u8..5, 0_u16..4, 0_u8..6, any::<u16>(), 0_u64..2000),
                0..200,
            ),
        ) {
            let mut now = Instant::now();
            let mut engine = Engine::new(4);
            for (socket, port, what, number, later) in packets {
                now += Duration::from_millis(later);
                let [high, low] = number.to_be_bytes();
                let packet = match what {
                    0 => PLAIN.to_vec(),
                    1 => b"\0\x01f\0octet\0blksize\x00600\0windowsize\x007\0tsize\x000\0".to_vec(),
                    2 => vec![0, 4, 0, low % 24],
                    3 => vec![0, 4, high, low],
                    4 => vec![0, 5, 0, 0],
                    _ => vec![high, low, high, low, 0],
                };
                match socket.checked_sub(1) {
                    None => engine.request(client(port), &packet, &mut One, now),
                    Some(socket) => engine.reply(Link { socket, client: client(port) }, &packet, now),
                }
                engine.silence(now);
                for action in std::mem::take(&mut engine.actions) {
                    if let Action::Blocks { block, first, count, .. } = action {
                        prop_assert!(first + u64::from(count) - 1 <= 10_000 / u64::from(block) + 1);
                    }
                }
                prop_assert_eq!(engine.under_way(), engine.due.len());
                prop_assert_eq!(engine.under_way(), engine.by_client.len());
                prop_assert!(engine.next_due().is_none_or(|due| due > now));
            }
            while let Some(due) = engine.next_due() {
                engine.silence(due);
            }
            prop_assert_eq!(engine.under_way(), 0);
        }
    }
}
