//! Options, as they stand in packets and as they are laid out in a reply.

use std::{borrow::Cow, net::Ipv4Addr};

use super::parse::BadPacket;

/// Codes of options (RFC 2132 unless said otherwise).
pub(crate) mod code {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP: u8 = 42;
    pub const VENDOR: u8 = 43;
    pub const REQUESTED: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL: u8 = 58;
    pub const REBINDING: u8 = 59;
    pub const CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY_AGENT: u8 = 82;
    /// RFC 4578.
    pub const ARCHITECTURE: u8 = 93;
    /// RFC 4578.
    pub const MACHINE_ID: u8 = 97;
    /// RFC 3011.
    pub const SUBNET: u8 = 118;
    /// RFC 3442.
    pub const ROUTES: u8 = 121;
    pub const IPXE: u8 = 175;
    /// 121 by the number that Windows used before there was a standard.
    pub const ROUTES_MICROSOFT: u8 = 249;
}

/// The options of a packet, each once: parts of one option are joined (RFC 3396).
pub(crate) struct Options<'a> {
    values: Vec<(u8, Cow<'a, [u8]>)>,
    /// Where each code is in `values`, counted from 1.
    places: [u16; 256],
}

impl<'a> Options<'a> {
    pub fn new() -> Self {
        Self { values: Vec::with_capacity(16), places: [0; 256] }
    }

    pub fn get(&self, code: u8) -> Option<&[u8]> {
        let place = usize::from(self.places[usize::from(code)]).checked_sub(1)?;
        self.values.get(place).map(|(_, value)| value.as_ref())
    }

    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        crate::frame::address(self.get(code)?)
    }

    /// Reads options up to the end mark. Some ROMs leave the end mark out, so the end of the field is as good.
    pub fn scan(&mut self, mut field: &'a [u8]) -> Result<(), BadPacket> {
        loop {
            match *field {
                [] | [255, ..] => return Ok(()),
                [0, ref rest @ ..] => field = rest,
                [code] => return Err(BadPacket::Overrun(code)),
                [code, length, ref rest @ ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else {
                        return Err(BadPacket::Overrun(code));
                    };
                    self.add(code, value);
                    field = rest;
                }
            }
        }
    }

    fn add(&mut self, code: u8, value: &'a [u8]) {
        let place = &mut self.places[usize::from(code)];
        match usize::from(*place).checked_sub(1) {
            Some(known) => self.values[known].1.to_mut().extend_from_slice(value),
            None => {
                self.values.push((code, Cow::Borrowed(value)));
                // There are 255 codes.
                *place = u16::try_from(self.values.len()).unwrap_or_default();
            }
        }
    }
}

/// The options of a reply, before they are laid out.
pub(crate) struct Sheet {
    bytes: Vec<u8>,
    options: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    code: u8,
    start: usize,
    end: usize,
}

impl Entry {
    /// What it takes on the wire: a value of more than 255 bytes goes in parts (RFC 3396).
    fn length(self) -> usize {
        let value = self.end - self.start;
        value + 2 * value.div_ceil(255).max(1)
    }
}

/// The three fields that options are laid out in, of which two belong to the header of BOOTP.
pub(crate) struct Laid {
    /// What follows the cookie, with the end mark.
    pub options: Vec<u8>,
    /// Options that stand in `file` and `sname` (option 52).
    pub file: Option<Vec<u8>>,
    pub sname: Option<Vec<u8>>,
}

const FILE: usize = 128;
const SNAME: usize = 64;

impl Sheet {
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(256), options: Vec::with_capacity(24) }
    }

    pub fn put(&mut self, code: u8, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.options.push(Entry { code, start, end: self.bytes.len() });
    }

    pub fn put_address(&mut self, code: u8, address: Ipv4Addr) {
        self.put(code, &address.octets());
    }

    /// A list of addresses; none where there are none, because an empty option is a broken one.
    pub fn put_addresses(&mut self, code: u8, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            let octets: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
            self.put(code, &octets);
        }
    }

    pub fn put_seconds(&mut self, code: u8, seconds: u32) {
        self.put(code, &seconds.to_be_bytes());
    }

    pub fn remove(&mut self, code: u8) {
        self.options.retain(|entry| entry.code != code);
    }

    /// Lays the options out in at most `room` bytes, if they can be made to fit.
    ///
    /// What decides something comes first, then what the client asked for in its order (option 55; RFC 2132 section
    /// 9.8 has the server keep it), then the rest; the relay's information last (RFC 3046 section 2.1). What does not
    /// fit goes into `sname` and, if `file_is_free`, `file`. Then what a client can do without is left out, its least
    /// wanted first. What is left is sent even when it is too long. Without `overload` the header's fields are left alone.
    pub fn lay_out(mut self, room: usize, wanted: &[u8], file_is_free: bool, overload: bool) -> Laid {
        self.options.sort_by_key(|entry| rank(entry.code, wanted));
        loop {
            if self.length() < room {
                return Laid { options: self.write(&self.options), file: None, sname: None };
            }
            if overload && let Some(laid) = self.overload(room, file_is_free) {
                return laid;
            }
            let Some(spare) = self.options.iter().rposition(|entry| can_be_spared(entry.code)) else {
                return Laid { options: self.write(&self.options), file: None, sname: None };
            };
            self.options.remove(spare);
        }
    }

    /// With everything, without the end mark.
    pub fn length(&self) -> usize {
        self.options.iter().map(|entry| entry.length()).sum()
    }

    /// Every option whole in one field, so that only those in parts are read in parts. `None` when they do not fit.
    fn overload(&self, room: usize, file_is_free: bool) -> Option<Laid> {
        // The end mark, and option 52 itself.
        let mut left = [room.checked_sub(1 + 3)?, if file_is_free { FILE - 1 } else { 0 }, SNAME - 1];
        let mut places = vec![0; self.options.len()];
        // The longest first, because only the first field has room for it.
        let mut by_length: Vec<usize> = (0..self.options.len()).collect();
        by_length.sort_by_key(|number| std::cmp::Reverse(self.options[*number].length()));
        // The header's fields are no place for what decides how the rest is read, nor for what has to be last.
        let only_first = |code| matches!(code, code::KIND | code::SERVER | code::RELAY_AGENT);
        let (fixed, free): (Vec<usize>, Vec<usize>) =
            by_length.into_iter().partition(|number| only_first(self.options[*number].code));
        for number in fixed.iter().chain(&free) {
            let entry = self.options[*number];
            let candidates = if only_first(entry.code) { &[0][..] } else { &[0, 1, 2] };
            let place = *candidates.iter().find(|place| left[**place] >= entry.length())?;
            left[place] -= entry.length();
            places[*number] = place;
        }
        let field = |field: usize| -> Vec<Entry> {
            let placed = self.options.iter().zip(&places).filter(|(_, place)| **place == field);
            placed.map(|(entry, _)| *entry).collect()
        };
        let fields = [field(0), field(1), field(2)];
        let [options, file, sname] = fields;
        let which = u8::from(!file.is_empty()) | u8::from(!sname.is_empty()) << 1;
        let mut written = self.write(&options);
        // Right after the message type, which is always there.
        written.splice(3..3, [code::OVERLOAD, 1, which]);
        let field = |entries: Vec<Entry>| (!entries.is_empty()).then(|| self.write(&entries));
        Some(Laid { options: written, file: field(file), sname: field(sname) })
    }

    fn write(&self, entries: &[Entry]) -> Vec<u8> {
        let mut written = Vec::with_capacity(self.bytes.len() + 2 * entries.len() + 8);
        for entry in entries {
            let value = &self.bytes[entry.start..entry.end];
            if value.is_empty() {
                written.extend([entry.code, 0]);
            }
            for part in value.chunks(255) {
                written.extend([entry.code, part.len() as u8]);
                written.extend_from_slice(part);
            }
        }
        written.push(255);
        written
    }
}

fn rank(code: u8, wanted: &[u8]) -> usize {
    match code {
        code::KIND => 0,
        code::SERVER => 1,
        code::LEASE => 2,
        // Before the router (RFC 2132 section 3.3).
        code::SUBNET_MASK => 3,
        code::RELAY_AGENT => usize::MAX,
        // Echoes are wanted by nobody and short of nothing: behind all else.
        code::CLIENT_ID | code::MACHINE_ID => 1000,
        code => match wanted.iter().position(|wanted| *wanted == code) {
            Some(place) => 4 + place,
            None => 500,
        },
    }
}

/// Whether a client does without, more slowly or less well.
fn can_be_spared(code: u8) -> bool {
    matches!(
        code,
        code::TFTP_SERVER
            | code::HOSTNAME
            | code::DOMAIN
            | code::NTP
            | code::MTU
            | code::DNS
            | code::RENEWAL
            | code::REBINDING
            | code::MESSAGE
            | code::SUBNET
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(laid: &Laid) -> Vec<(u8, Vec<u8>)> {
        let mut options = Options::new();
        options.scan(&laid.options).unwrap();
        if let Some(file) = &laid.file {
            assert!(file.len() <= FILE);
            options.scan(file).unwrap();
        }
        if let Some(sname) = &laid.sname {
            assert!(sname.len() <= SNAME);
            options.scan(sname).unwrap();
        }
        let which = u8::from(laid.file.is_some()) | u8::from(laid.sname.is_some()) << 1;
        assert_eq!(options.get(code::OVERLOAD), (which != 0).then_some(&[which][..]));
        let mut all: Vec<_> = options.values.iter().map(|(code, value)| (*code, value.to_vec())).collect();
        all.retain(|(code, _)| *code != code::OVERLOAD);
        all.sort();
        all
    }

    #[test]
    fn a_client_is_answered_in_the_order_it_asked_in() {
        let mut sheet = Sheet::new();
        for code in [82, 97, 6, 3, 1, 51, 54, 53] {
            sheet.put(code, &[code; 4]);
        }
        let laid = sheet.lay_out(300, &[1, 28, 3, 6], true, true);
        let order: Vec<u8> = laid.options.chunks(6).map(|option| option[0]).collect();
        assert_eq!(order, [53, 54, 51, 1, 3, 6, 97, 82, 255]);
    }

    #[test]
    fn what_does_not_fit_goes_into_the_header_and_then_away() {
        let sheet = |routes: usize| {
            let mut sheet = Sheet::new();
            sheet.put(code::KIND, &[5]);
            sheet.put(code::SERVER, &[10, 77, 0, 1]);
            sheet.put(code::DOMAIN, &[b'a'; 50]);
            sheet.put(code::ROUTES, &vec![7; routes]);
            sheet
        };
        let laid = sheet(255).lay_out(308, &[], true, true);
        assert_eq!(laid.sname, None);
        assert_eq!(laid.file.as_ref().map(Vec::len), Some(53), "the domain");
        let laid = sheet(255).lay_out(308, &[], false, true);
        assert_eq!(laid.sname.as_ref().map(Vec::len), Some(53));
        // In two parts, and then there is no place for names.
        let laid = sheet(280).lay_out(308, &[], true, true);
        assert_eq!(
            read(&laid).iter().map(|(code, value)| (*code, value.len())).collect::<Vec<_>>(),
            [(15, 50), (53, 1), (54, 4), (121, 280)]
        );
        assert_eq!(laid.options[12..14], [121, 255]);
        let laid = sheet(600).lay_out(308, &[], true, true);
        assert!(laid.options.len() > 600 && laid.file.is_none(), "routes are not cut");
    }

    proptest! {
        #[test]
        fn what_is_laid_out_is_read_again(
            values in prop::collection::btree_map(
                prop::sample::select(vec![1_u8, 3, 6, 12, 15, 26, 42, 43, 51, 54, 58, 60, 61, 67, 82, 97, 121, 175]),
                prop::collection::vec(any::<u8>(), 0..400), 0..12),
            room in 300_usize..1300,
            file_is_free in any::<bool>(),
            wanted in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let mut sheet = Sheet::new();
            sheet.put(code::KIND, &[2]);
            for (code, value) in &values {
                sheet.put(*code, value);
            }
            let laid = sheet.lay_out(room, &wanted, file_is_free, true);
            let read = read(&laid);
            for (code, value) in &values {
                let found = read.iter().find(|(read, _)| read == code);
                prop_assert!(found.is_some_and(|(_, read)| read == value) || can_be_spared(*code));
            }
            if laid.options.len() > room {
                prop_assert!(!read.iter().any(|(code, _)| can_be_spared(*code)));
            }
        }
    }
}
