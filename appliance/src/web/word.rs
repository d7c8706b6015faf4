//! A word that is looked for in names, in what hardware says of itself, and in addresses.
//!
//! A large site has some 100,000 of each; a text that is only looked into is not made anew for it.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use fleet::{Fleet, Mac};
use memchr::memmem::Finder;

#[derive(Debug)]
pub struct Word {
    /// In lower case.
    pub text: String,
    finder: Finder<'static>,
    /// Those whose addresses have it in them.
    holders: HashSet<Mac>,
    is_of_mac: bool,
}

impl Word {
    pub fn all(question: &str, fleet: &Fleet) -> Vec<Word> {
        question.split_whitespace().map(|word| Word::new(word.to_lowercase(), fleet)).collect()
    }

    fn new(text: String, fleet: &Fleet) -> Word {
        let finder = Finder::new(text.as_bytes()).into_owned();
        let is_of_address = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let mut written = Vec::new();
        let has = |address: Ipv4Addr| {
            write(address, &mut written);
            finder.find(&written).is_some()
        };
        let given = fleet.leases.given.by_address().filter(|_| is_of_address);
        let holders = holders(given, has);
        let is_of_mac = text.contains(':') && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        Word { text, finder, holders, is_of_mac }
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.finder.find(text.as_bytes()).is_some()
    }

    /// Of what is not in lower case already.
    pub fn is_in_any_case(&self, text: &str) -> bool {
        let word = self.text.as_bytes();
        let Some(first) = word.first().filter(|_| text.is_ascii()) else {
            return self.is_in(&text.to_lowercase());
        };
        let text = text.as_bytes();
        let mut begins = memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text);
        begins.any(|at| text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word)))
    }

    /// In a MAC address or in an address that it has.
    pub fn is_of(&self, mac: Mac) -> bool {
        self.holders.contains(&mac) || (self.is_of_mac && self.finder.find(&written(mac)).is_some())
    }

    /// `v17`, without writing each id out.
    pub fn is_id(&self, prefix: char, number: u64) -> bool {
        self.text.strip_prefix(prefix).is_some_and(|digits| digits.parse() == Ok(number))
    }
}

fn holders(
    given: impl Iterator<Item = (Ipv4Addr, Mac)>,
    mut has: impl FnMut(Ipv4Addr) -> bool,
) -> HashSet<Mac> {
    given.filter(|(address, _)| has(*address)).map(|(_, mac)| mac).collect()
}

/// As it is displayed.
fn write(address: Ipv4Addr, text: &mut Vec<u8>) {
    text.clear();
    for octet in address.octets() {
        if !text.is_empty() {
            text.push(b'.');
        }
        for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
            if octet >= least {
                text.push(b'0' + digit);
            }
        }
    }
}

/// As it is displayed.
fn written(mac: Mac) -> [u8; 17] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [b':'; 17];
    for (octet, digits) in mac.0.into_iter().zip(text.chunks_mut(3)) {
        digits[0] = DIGITS[usize::from(octet >> 4)];
        digits[1] = DIGITS[usize::from(octet & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        let mut text = Vec::new();
        for number in (0..=u32::MAX).step_by(65_537 * 3).chain([0, u32::MAX]) {
            let address = Ipv4Addr::from(number);
            write(address, &mut text);
            assert_eq!(text, address.to_string().into_bytes());
            let [a, b, c, d] = address.octets();
            let mac = Mac([d, c, b, a, 0, 255]);
            assert_eq!(written(mac), mac.to_string().as_bytes());
        }
    }

    #[test]
    fn letters_of_any_case_are_found_in_any_language() {
        let word = |text: &str| Word::new(text.to_lowercase(), &Fleet::default());
        assert!(word("EPYC").is_in_any_case("AMD Epyc 7543"));
        assert!(word("75").is_in_any_case("AMD Epyc 7543") && word("3").is_in_any_case("AMD Epyc 7543"));
        assert!(!word("3x").is_in_any_case("AMD Epyc 7543"));
        assert!(word("über").is_in_any_case("ÜBERRECHNER 3"));
        assert!(!word("epyc-2").is_in_any_case("EPYC"));
        assert!(word("v17").is_id('v', 17) && !word("v17").is_id('v', 1) && !word("v17").is_id('s', 17));
    }
}
