//! Lists of many things: what of them is looked for, in which order, and which page of it is shown.
//!
//! A list goes over its nouns once, where they stand in memory; documents are made of those that are shown.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fleet::{Fleet, Mac, Observed, Plan};

use super::glance::Hinted;
use super::look::Look;
use super::order::{self, Key, natural};
use super::walk;
use super::word::Word;

/// What a list looks at.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub fleet: &'a Fleet,
    pub plan: &'a Plan,
    pub observed: &'a Observed,
    pub hinted: &'a Hinted,
}

/// Something that there is a list of, by reference.
pub trait Noun: Copy {
    /// Its states, in their order.
    const STATES: &'static [&'static str];

    fn name<'a>(&'a self, scene: Scene<'a>) -> &'a str;
    fn id(&self) -> u64;
    fn state(&self) -> &'static str;
    /// Goes no further without a person.
    fn asks(&self, scene: Scene<'_>) -> bool;
    fn has(&self, word: &Word, scene: Scene<'_>) -> bool;
    fn key(&self, column: &str, scene: Scene<'_>) -> Key;

    /// Reads a bit of each part that a list looks at (`walk::touched`); when it is `searched`, also of what words are
    /// looked for in.
    fn touch(&self, searched: bool) -> u64;
}

/// Those that are found, and how many there are.
#[derive(Debug)]
pub struct Found<N> {
    found: Vec<(Key, N)>,
    counts: Vec<(&'static str, usize)>,
    asking: usize,
    all: usize,
}

pub fn find<N: Noun>(scene: Scene<'_>, nouns: impl Iterator<Item = N>, look: &Look) -> Found<N> {
    let words = Word::all(&look.q, scene.fleet);
    let (column, _) = look.order();
    let all = if words.is_empty() { nouns.size_hint().0 } else { 0 };
    let mut found = Found {
        found: Vec::with_capacity(all),
        counts: N::STATES.iter().map(|state| (*state, 0)).collect(),
        asking: 0,
        all: 0,
    };
    for noun in walk::touched(nouns, |noun| noun.touch(!words.is_empty())) {
        if !words.iter().all(|word| noun.has(word, scene)) {
            continue;
        }
        let (state, asks) = (noun.state(), noun.asks(scene));
        found.all += 1;
        found.asking += usize::from(asks);
        if let Some((_, count)) = found.counts.iter_mut().find(|(known, _)| *known == state) {
            *count += 1;
        }
        if look.is.is_empty() || look.is == state || (look.is == NEEDS && asks) {
            found.found.push((noun.key(column, scene), noun));
        }
    }
    found
}

/// What waits for a person, as it stands in addresses.
pub const NEEDS: &str = "needs";

impl<N: Noun> Found<N> {
    /// All of them, in no order.
    pub fn into_all(self) -> impl Iterator<Item = N> {
        self.found.into_iter().map(|(_, noun)| noun)
    }

    /// How many there are in each state.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.counts.iter().copied()
    }

    /// Those of the page that is looked at, and what stands around them.
    pub fn page(mut self, scene: Scene<'_>, look: &Look, path: &'static str) -> (Vec<N>, Frame) {
        let total = self.found.len();
        // After what was on the last page is gone, the page before it is the last.
        let page = look.page.min(total.saturating_sub(1) / look.size);
        let (_, from_end) = look.order();
        let compare = |(a, x): &(Key, N), (b, y): &(Key, N)| {
            let order = a.cmp(b).then_with(|| natural(x.name(scene), y.name(scene)));
            let order = order.then_with(|| x.id().cmp(&y.id()));
            if from_end { order.reverse() } else { order }
        };
        let shown = order::page(&mut self.found, page * look.size, look.size, compare);
        let shown: Vec<N> = shown.iter().map(|(_, noun)| *noun).collect();
        let facets = self.facets(look, path);
        let frame = Frame { look: look.at_page(page), path, total, shown: shown.len(), facets };
        (shown, frame)
    }

    fn facets(&self, look: &Look, path: &str) -> Vec<Facet> {
        let facet = |is: &'static str, label: &str, count| Facet {
            label: label.to_owned(),
            asks: is == NEEDS,
            count,
            current: look.is == is,
            href: format!("{path}{}", look.being(is).query()),
        };
        let mut facets = vec![facet("", "all", self.all)];
        let states = self.counts.iter().filter(|(state, count)| *count > 0 || look.is == *state);
        facets.extend(states.map(|(state, count)| facet(state, state, *count)));
        if self.asking > 0 || look.is == NEEDS {
            facets.push(facet(NEEDS, "waiting for you", self.asking));
        }
        facets
    }
}

/// What stands around the rows of a list: question, filters, columns, pages.
#[derive(Debug, Clone)]
pub struct Frame {
    pub look: Look,
    pub path: &'static str,
    /// Found on all pages.
    pub total: usize,
    shown: usize,
    pub facets: Vec<Facet>,
}

/// A link that shows those of one state only.
#[derive(Debug, Clone)]
pub struct Facet {
    pub label: String,
    pub asks: bool,
    pub count: usize,
    pub current: bool,
    pub href: String,
}

impl Frame {
    /// Of what is in its order already; `total` on all pages.
    pub fn of(look: &Look, path: &'static str, total: usize) -> Frame {
        let page = look.page.min(total.saturating_sub(1) / look.size);
        let shown = total.saturating_sub(page * look.size).min(look.size);
        Frame { look: look.at_page(page), path, total, shown, facets: Vec::new() }
    }

    pub fn is_asked(&self) -> bool {
        let Look { q, is, on, .. } = &self.look;
        !(q.is_empty() && is.is_empty() && on.is_empty())
    }

    /// Counted from 1.
    pub fn first(&self) -> usize {
        (self.look.page * self.look.size + 1).min(self.total)
    }

    pub fn last(&self) -> usize {
        self.look.page * self.look.size + self.shown
    }

    pub fn skipped(&self) -> usize {
        self.look.page * self.look.size
    }

    pub fn previous(&self) -> Option<String> {
        Some(self.href(&self.look.at_page(self.look.page.checked_sub(1)?)))
    }

    pub fn next(&self) -> Option<String> {
        (self.last() < self.total).then(|| self.href(&self.look.at_page(self.look.page + 1)))
    }

    /// The whole list, from its beginning.
    pub fn cleared(&self) -> String {
        self.path.to_owned()
    }

    /// As it is looked for, for those who act on all of it.
    pub fn address(&self) -> String {
        self.href(&self.look.at_page(0))
    }

    /// Where a click on a column's head leads: its order, or the other way round.
    pub fn sorted_by(&self, column: &str) -> String {
        let sort = match self.direction(column) {
            "ascending" => format!("-{column}"),
            // As it is without being said.
            _ if column == "name" => String::new(),
            _ => column.to_owned(),
        };
        self.href(&self.look.by(sort))
    }

    /// `aria-sort` of a column.
    pub fn direction(&self, column: &str) -> &'static str {
        let (by, from_end) = self.look.order();
        let is_it = by == column || (by.is_empty() && column == "name");
        match (is_it, from_end) {
            (false, _) => "none",
            (true, false) => "ascending",
            (true, true) => "descending",
        }
    }

    fn href(&self, look: &Look) -> String {
        format!("{}{}", self.path, look.query())
    }
}

/// Compares what is given by position: of equal states, by name.
pub fn by_state<N: Noun>(noun: &N, name: &str) -> Key {
    let place = N::STATES.iter().position(|state| *state == noun.state());
    Key::group(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX), name)
}

/// Addresses that are given, in their order.
pub struct Addresses<'a> {
    fleet: &'a Fleet,
    /// Those that were looked for; all, if nothing was.
    found: Option<Vec<(Ipv4Addr, Mac)>>,
}

pub fn addresses<'a>(fleet: &'a Fleet, look: &Look) -> Addresses<'a> {
    let words = Word::all(&look.q, fleet);
    if words.is_empty() {
        return Addresses { fleet, found: None };
    }
    let machines = walk::touched(fleet.machines.values(), |machine| machine.as_ref().touch(false));
    let machines = machines.flat_map(|it| it.macs.iter().map(|mac| (*mac, &it.name)));
    let vms = walk::touched(fleet.vms.values(), |vm| vm.as_ref().touch(true));
    let named = machines.chain(vms.map(|vm| (vm.mac, &vm.name)));
    // A name or an address may have any of the words.
    let mut names: BTreeMap<Mac, &str> = BTreeMap::new();
    for (mac, name) in named {
        if words.iter().any(|word| word.is_in(name)) {
            names.insert(mac, name);
        }
    }
    let has = |mac: Mac, word: &Word| word.is_of(mac) || names.get(&mac).is_some_and(|name| word.is_in(name));
    let given = fleet.leases.given.by_address();
    let found = given.filter(|(_, mac)| words.iter().all(|word| has(*mac, word))).collect();
    Addresses { fleet, found: Some(found) }
}

impl Addresses<'_> {
    pub fn len(&self) -> usize {
        self.found.as_ref().map_or(self.fleet.leases.given.len(), Vec::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn shown(&self, first: usize, count: usize) -> Vec<(Ipv4Addr, Mac)> {
        match &self.found {
            Some(found) => found.iter().skip(first).take(count).copied().collect(),
            None => self.fleet.leases.given.by_address().skip(first).take(count).collect(),
        }
    }
}
