//! One file on its way to one client: what is sent when, without sockets, files or a clock of its own.
//!
//! ```text
//! Offering ──ACK 0──▶ Sending ──ACK of the last block──▶ Ended
//!     │                 │  ▲
//!     │                 └──┘ ACK: the next window; silence: the same again, a few times
//!     └───────── the client's ERROR, or silence for too long ──▶ Ended
//! ```
//!
//! Without options there is no offer, and block 1 goes first. Blocks are counted from 1 without end; on the wire their
//! number is the low 16 bits, so after 65535 comes 0, as clients expect it.

use std::time::{Duration, Instant};

use super::parse::Options;

/// 64 blocks are as fast as more, also at a round trip of a millisecond, and a client's network card can hold them.
pub const LARGEST_WINDOW: u16 = 64;

/// Longer intervals between repetitions than this are not agreed to: too long for a person who waits.
const LONGEST_TIMEOUT_SECS: u8 = 10;

/// How often the same thing is sent again to a client that says nothing.
const REPEATS: u32 = 6;

/// Firmware may stop for a moment where it stores what it got, so nothing is repeated earlier than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What both sides hold to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub block: u16,
    pub window: u16,
    /// The client's own interval between repetitions; otherwise it follows from the round trips.
    pub timeout: Option<Duration>,
}

impl Terms {
    /// The terms for what a client asks, and the OACK that tells it (RFC 2347); none when nothing was asked.
    pub fn agree(options: &Options, size: u64, largest_block: u16) -> (Self, Option<Vec<u8>>) {
        let mut terms = Self { block: 512, window: 1, timeout: None };
        let mut oack = vec![0, 6];
        let mut tell = |option: &str, value: u64| {
            oack.extend_from_slice(option.as_bytes());
            oack.push(0);
            oack.extend_from_slice(value.to_string().as_bytes());
            oack.push(0);
        };
        if let Some(block) = options.block {
            terms.block = block.min(largest_block);
            tell("blksize", terms.block.into());
        }
        if options.size {
            tell("tsize", size);
        }
        if let Some(secs) = options.timeout_secs.filter(|secs| *secs <= LONGEST_TIMEOUT_SECS) {
            terms.timeout = Some(Duration::from_secs(secs.into()));
            tell("timeout", secs.into());
        }
        if let Some(window) = options.window {
            terms.window = window.min(LARGEST_WINDOW);
            tell("windowsize", terms.window.into());
        }
        (terms, (oack.len() > 2).then_some(oack))
    }
}

/// What has to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Wait,
    /// Send the OACK.
    Offer,
    /// Send `count` blocks from number `first`.
    Send {
        first: u64,
        count: u16,
    },
    /// The client has it all.
    Done,
    /// The client said nothing for too long.
    GiveUp,
}

#[derive(Debug)]
pub struct Transfer {
    terms: Terms,
    size: u64,
    offering: bool,
    /// The last block that the client acknowledged, 0 at the beginning.
    acked: u64,
    /// The last block that was sent.
    sent: u64,
    /// When the last window went out, and whether it was for the first time.
    sent_at: Instant,
    fresh: bool,
    repeats: u32,
    round_trip: Option<RoundTrip>,
    /// Whether the window after `acked` was sent again at an acknowledgment of what was acknowledged before.
    hurried: bool,
}

#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    smooth: Duration,
    least: Duration,
}

impl Transfer {
    /// A transfer of `size` bytes, and its first turn.
    pub fn begin(terms: Terms, size: u64, offering: bool, now: Instant) -> (Self, Turn) {
        let mut transfer = Self {
            terms,
            size,
            offering,
            acked: 0,
            sent: 0,
            sent_at: now,
            fresh: true,
            repeats: 0,
            round_trip: None,
            hurried: false,
        };
        let turn = transfer.go_on(now, true);
        (transfer, turn)
    }

    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes an acknowledgment by its number on the wire.
    pub fn acknowledged(&mut self, number: u16, now: Instant) -> Turn {
        if self.offering {
            // Only the offer can be acknowledged.
            if number != 0 {
                return Turn::Wait;
            }
            self.offering = false;
            self.measure(now);
            return self.go_on(now, true);
        }
        let forward = u64::from(number.wrapping_sub(self.acked as u16));
        if forward > self.sent - self.acked {
            // Late or made up.
            return Turn::Wait;
        }
        if forward == 0 {
            return self.repeated(now);
        }
        self.acked += forward;
        if self.acked == self.blocks() {
            return Turn::Done;
        }
        if self.acked == self.sent {
            self.measure(now);
        }
        // Short of the window's end: a block was lost, and the client wants all that follows (RFC 7440, section 4).
        let fresh = self.acked == self.sent;
        self.go_on(now, fresh)
    }

    /// Takes an acknowledgment of what was acknowledged before.
    fn repeated(&mut self, now: Instant) -> Turn {
        // In lock step this is never answered: it would double every packet from there on (RFC 1123, section 4.2.3.1,
        // the Sorcerer's Apprentice). With windows it says that the first block of one was lost. Once, and not sooner
        // than an answer to that window can be here: a doubled acknowledgment would double all windows just so.
        let too_early = self.round_trip.is_some_and(|trip| now < self.sent_at + trip.least);
        if self.terms.window == 1 || self.hurried || too_early {
            return Turn::Wait;
        }
        self.hurried = true;
        self.go_on_hurried(now)
    }

    fn go_on_hurried(&mut self, now: Instant) -> Turn {
        let turn = self.go_on(now, false);
        self.hurried = true;
        turn
    }

    /// The next window, or the offer.
    fn go_on(&mut self, now: Instant, fresh: bool) -> Turn {
        self.sent_at = now;
        self.fresh = fresh;
        self.repeats = 0;
        self.hurried = false;
        self.turn()
    }

    fn turn(&mut self) -> Turn {
        if self.offering {
            return Turn::Offer;
        }
        let count = u64::from(self.terms.window).min(self.blocks() - self.acked);
        self.sent = self.acked + count;
        Turn::Send { first: self.acked + 1, count: count as u16 }
    }

    /// When something has to be done if nothing comes.
    pub fn due(&self) -> Instant {
        let wait = match (self.terms.timeout, self.round_trip) {
            (Some(timeout), _) => timeout,
            (None, trip) => {
                let first =
                    trip.map_or(FIRST_WAIT, |trip| (trip.smooth * 4).clamp(SHORTEST_WAIT, FIRST_WAIT));
                (first * 2_u32.pow(self.repeats)).min(LONGEST_WAIT)
            }
        };
        self.sent_at + wait
    }

    /// What to do at [`Self::due`].
    pub fn silence(&mut self, now: Instant) -> Turn {
        if now < self.due() {
            return Turn::Wait;
        }
        self.again(now)
    }

    /// The same once more, also when the client repeats its request, which has lost our answer then.
    pub fn again(&mut self, now: Instant) -> Turn {
        if self.repeats == REPEATS {
            return Turn::GiveUp;
        }
        self.repeats += 1;
        self.sent_at = now;
        self.fresh = false;
        self.turn()
    }

    /// Whether the client has shown by an acknowledgment that it heard us.
    pub fn heard(&self) -> bool {
        self.acked > 0 || (self.sent > 0 && self.round_trip.is_some())
    }

    pub fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Bytes that the client is known to have.
    pub fn arrived(&self) -> u64 {
        (self.acked * u64::from(self.terms.block)).min(self.size)
    }

    /// Whether the last block went out: a client that starts a program does not always acknowledge its end.
    pub fn all_sent(&self) -> bool {
        self.sent == self.blocks()
    }

    /// A last block that is not full ends the file, if need be an empty one.
    fn blocks(&self) -> u64 {
        self.size / u64::from(self.terms.block) + 1
    }

    fn measure(&mut self, now: Instant) {
        // An answer to something that was sent twice is an answer to either (Karn's rule).
        if !self.fresh {
            return;
        }
        let sample = now.duration_since(self.sent_at);
        self.round_trip = Some(match self.round_trip {
            None => RoundTrip { smooth: sample, least: sample },
            Some(trip) => RoundTrip { smooth: (trip.smooth * 7 + sample) / 8, least: trip.least.min(sample) },
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn terms(block: u16, window: u16) -> Terms {
        Terms { block, window, timeout: None }
    }

    fn send(first: u64, count: u16) -> Turn {
        Turn::Send { first, count }
    }

    #[test]
    fn terms_are_what_was_asked_within_bounds() {
        let options = Options { block: Some(65464), size: true, timeout_secs: Some(3), window: Some(65535) };
        let (terms, oack) = Terms::agree(&options, 12345, 1468);
        assert_eq!(terms, Terms { block: 1468, window: 64, timeout: Some(Duration::from_secs(3)) });
        assert_eq!(oack.unwrap(), b"\0\x06blksize\x001468\0tsize\x0012345\0timeout\x003\0windowsize\x0064\0");
        let (terms, oack) = Terms::agree(&Options::default(), 1, 1468);
        assert_eq!((terms, oack), (super::tests::terms(512, 1), None));
        let (_, oack) = Terms::agree(&Options { timeout_secs: Some(255), ..Options::default() }, 1, 1468);
        assert_eq!(oack, None);
    }

    #[test]
    fn blocks_go_one_by_one_and_the_last_is_not_full() {
        let now = Instant::now();
        let (mut transfer, turn) = Transfer::begin(terms(512, 1), 1024, false, now);
        assert_eq!(turn, send(1, 1));
        assert_eq!(transfer.acknowledged(1, now), send(2, 1));
        // 1024 bytes are two full blocks, so an empty third one ends the file.
        assert_eq!(transfer.acknowledged(2, now), send(3, 1));
        assert_eq!(transfer.acknowledged(3, now), Turn::Done);
        assert_eq!(transfer.arrived(), 1024);
        // An empty file is one empty block.
        assert_eq!(Transfer::begin(terms(512, 1), 0, false, now).1, send(1, 1));
    }

    #[test]
    fn a_doubled_acknowledgment_doubles_nothing() {
        let now = Instant::now();
        let (mut transfer, _) = Transfer::begin(terms(512, 1), 5000, false, now);
        assert_eq!(transfer.acknowledged(1, now), send(2, 1));
        for _ in 0..5 {
            assert_eq!(transfer.acknowledged(1, now + 900 * MS), Turn::Wait);
        }
        assert_eq!(transfer.acknowledged(2, now + MS), send(3, 1));
        // Late, and made up.
        assert_eq!(transfer.acknowledged(1, now + MS), Turn::Wait);
        assert_eq!(transfer.acknowledged(4, now + MS), Turn::Wait);
        assert_eq!(transfer.acknowledged(0xffff, now + MS), Turn::Wait);
    }

    #[test]
    fn a_window_goes_on_behind_what_arrived_in_sequence() {
        let now = Instant::now();
        let (mut transfer, turn) = Transfer::begin(terms(1000, 8), 100_000, true, now);
        assert_eq!(turn, Turn::Offer);
        assert_eq!(transfer.acknowledged(1, now), Turn::Wait);
        assert_eq!(transfer.acknowledged(0, now + MS), send(1, 8));
        assert_eq!(transfer.acknowledged(8, now + 2 * MS), send(9, 8));
        // Block 12 was lost.
        assert_eq!(transfer.acknowledged(11, now + 3 * MS), send(12, 8));
        // Block 12 was lost again: said three times, answered once, and not before it can be meant.
        assert_eq!(transfer.acknowledged(11, now + 3 * MS), Turn::Wait);
        assert_eq!(transfer.acknowledged(11, now + 4 * MS), send(12, 8));
        assert_eq!(transfer.acknowledged(11, now + 6 * MS), Turn::Wait);
        assert_eq!(transfer.acknowledged(19, now + 7 * MS), send(20, 8));
        // What was acknowledged is never taken back.
        assert_eq!(transfer.acknowledged(11, now + 8 * MS), Turn::Wait);
    }

    #[test]
    fn numbers_go_on_with_0_after_65535() {
        let now = Instant::now();
        let size = 70_000 * 8;
        let (mut transfer, _) = Transfer::begin(terms(8, 64), size, false, now);
        let mut acked = 0;
        loop {
            acked = (acked + 64).min(size / 8 + 1);
            match transfer.acknowledged(acked as u16, now) {
                Turn::Send { first, .. } => assert_eq!(first, acked + 1),
                turn => {
                    assert_eq!((turn, acked), (Turn::Done, 70_001));
                    break;
                }
            }
        }
    }

    #[test]
    fn silence_repeats_ever_more_rarely_and_then_ends() {
        let start = Instant::now();
        let (mut transfer, _) = Transfer::begin(terms(512, 4), 100_000, false, start);
        transfer.acknowledged(4, start + MS);
        let mut now = start + MS;
        let mut waits = Vec::new();
        loop {
            let due = transfer.due();
            assert_eq!(transfer.silence(due - MS), Turn::Wait);
            waits.push(due.duration_since(now).as_millis());
            now = due;
            match transfer.silence(now) {
                Turn::GiveUp => break,
                turn => assert_eq!(turn, send(5, 4)),
            }
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 8000]);
        // The client's own interval stays.
        let terms = Terms { timeout: Some(Duration::from_secs(3)), ..terms(512, 1) };
        let (mut transfer, _) = Transfer::begin(terms, 1000, true, start);
        transfer.silence(start + 3000 * MS);
        assert_eq!(transfer.due(), start + 6000 * MS);
    }

    /// A client and a wire that loses, doubles and delays. The sum of what is sent stays within bounds, and the file
    /// arrives as it is.
    fn arrives(seed: u64, block: u16, window: u16, size: u64, loss: u64) -> Result<(), TestCaseError> {
        let mut random = seed | 1;
        let mut dice = move |sides: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % sides.max(1)
        };
        let start = Instant::now();
        let mut now = start;
        let blocks = size / u64::from(block) + 1;
        let (mut transfer, first) = Transfer::begin(terms(block, window), size, false, now);
        // (when, acknowledgment)
        let mut wire: Vec<(Instant, u16)> = Vec::new();
        let mut have = 0_u64;
        let mut heard_at = now;
        let mut packets = 0_u64;
        let mut turn = first;
        for _ in 0..200_000 {
            if let Turn::Send { first, count } = turn {
                let mut since = 0;
                for number in first..first + u64::from(count) {
                    packets += 1;
                    if dice(100) < loss {
                        continue;
                    }
                    heard_at = now;
                    if number == have + 1 {
                        have += 1;
                        since += 1;
                        if since == window || have == blocks {
                            wire.push((now + MS * (1 + dice(3)) as u32, have as u16));
                            since = 0;
                        }
                    } else {
                        // Out of sequence: say what is there.
                        wire.push((now + MS * (1 + dice(3)) as u32, have as u16));
                        since = 0;
                    }
                }
                if dice(100) < loss && !wire.is_empty() {
                    let at = dice(wire.len() as u64) as usize;
                    if dice(2) == 0 { wire.push(wire[at]) } else { _ = wire.swap_remove(at) }
                }
            }
            match turn {
                Turn::Done => {
                    prop_assert_eq!(have, blocks);
                    // Each loss costs a window at most, and nothing grows beyond that.
                    let bound = (blocks + 64) * (2 + 2 * loss * u64::from(window) / 10) + 1000;
                    prop_assert!(packets <= bound, "{packets} packets for {blocks} blocks, bound {bound}");
                    return Ok(());
                }
                Turn::GiveUp => return Ok(()),
                Turn::Wait | Turn::Offer | Turn::Send { .. } => {}
            }
            wire.sort();
            let client = heard_at + 1000 * MS;
            turn = match wire.first().copied() {
                Some((when, number)) if when <= transfer.due() => {
                    wire.remove(0);
                    now = now.max(when);
                    transfer.acknowledged(number, now)
                }
                _ if client < transfer.due() => {
                    now = now.max(client);
                    heard_at = now;
                    transfer.acknowledged(have as u16, now)
                }
                _ => {
                    now = now.max(transfer.due());
                    transfer.silence(now)
                }
            };
        }
        Err(TestCaseError::fail("it goes on for ever"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_file_arrives_over_a_bad_wire(
            seed: u64,
            block in 8_u16..2000,
            window in 1_u16..65,
            blocks in 0_u64..150,
            loss in 0_u64..15,
        ) {
            arrives(seed, block, window, blocks * u64::from(block), loss)?;
        }

        #[test]
        fn any_acknowledgments_keep_it_within_the_file(
            numbers in proptest::collection::vec((any::<u16>(), 0_u64..3000), 0..300),
            window in 1_u16..65,
            size in 0_u64..200_000,
            offering: bool,
        ) {
            let mut now = Instant::now();
            let (mut transfer, mut turn) = Transfer::begin(terms(512, window), size, offering, now);
            for (number, later) in numbers {
                if let Turn::Send { first, count } = turn {
                    prop_assert!(count > 0 && first + u64::from(count) - 1 <= size / 512 + 1);
                }
                if matches!(turn, Turn::Done | Turn::GiveUp) {
                    break;
                }
                now += Duration::from_millis(later);
                turn = if later % 3 == 0 {
                    transfer.silence(now)
                } else {
                    // Mostly numbers that can be meant.
                    let near = (transfer.acked + u64::from(number % 80)) as u16;
                    transfer.acknowledged(if later % 3 == 1 { near } else { number }, now)
                };
            }
        }
    }
}
