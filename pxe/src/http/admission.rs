//! Turns for large files: so many at a time, the rest in order, so that a room of machines that is switched on at once
//! is served one after another at full speed, and not all of them so slowly that some give up.
//!
//! Who waits is sent a trickle meanwhile (see [`super::send`]), so that nobody's patience ends.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Who may send now, and who is next.
///
/// In order of arrival, except that a machine with many connections has no more of it than one with few: its second
/// transfer comes after everybody's first.
#[derive(Debug)]
struct Queue {
    at_once: usize,
    /// By their numbers, in order of arrival.
    waiting: BTreeMap<u64, IpAddr>,
    sending: BTreeMap<u64, IpAddr>,
    next: u64,
    /// The waiting in the order in which they will be served. Made again when it is asked for after a change.
    order: Option<Vec<u64>>,
}

impl Queue {
    fn new(at_once: usize) -> Self {
        Self {
            at_once: at_once.max(1),
            waiting: BTreeMap::new(),
            sending: BTreeMap::new(),
            next: 0,
            order: None,
        }
    }

    fn arrive(&mut self, machine: IpAddr) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, machine);
        self.order = None;
        number
    }

    fn leave(&mut self, number: u64) {
        if self.waiting.remove(&number).is_some() | self.sending.remove(&number).is_some() {
            self.order = None;
        }
    }

    /// Lets in who is next, as long as there is room. Returns their numbers.
    fn admit(&mut self) -> Vec<u64> {
        let mut admitted = Vec::new();
        while self.sending.len() < self.at_once
            && let Some(&number) = self.order().first()
            && let Some(machine) = self.waiting.remove(&number)
        {
            self.sending.insert(number, machine);
            self.order = None;
            admitted.push(number);
        }
        admitted
    }

    /// 1 is the next. `None` for who does not wait.
    fn place(&mut self, number: u64) -> Option<usize> {
        if !self.waiting.contains_key(&number) {
            return None;
        }
        self.order().iter().position(|other| *other == number).map(|place| place + 1)
    }

    fn order(&mut self) -> &[u64] {
        let (waiting, sending) = (&self.waiting, &self.sending);
        self.order.get_or_insert_with(|| {
            let mut turns: BTreeMap<IpAddr, usize> = BTreeMap::new();
            for machine in sending.values() {
                *turns.entry(*machine).or_default() += 1;
            }
            let mut order: Vec<(usize, u64)> = Vec::with_capacity(waiting.len());
            for (number, machine) in waiting {
                let turn = turns.entry(*machine).or_default();
                order.push((*turn, *number));
                *turn += 1;
            }
            order.sort_unstable();
            order.into_iter().map(|(_, number)| number).collect()
        })
    }
}

/// The turns of one server, shared by its connections.
pub struct Admission {
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Rings when it is the turn of who waits.
    bells: BTreeMap<u64, Arc<Notify>>,
}

impl Admission {
    pub fn new(at_once: usize) -> Arc<Self> {
        let state = State { queue: Queue::new(at_once), bells: BTreeMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub fn arrive(self: &Arc<Self>, machine: IpAddr) -> Turn {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        let number = state.queue.arrive(machine);
        state.bells.insert(number, Arc::clone(&bell));
        state.ring();
        drop(state);
        Turn { admission: Arc::clone(self), machine, number, bell }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ring(&mut self) {
        for number in self.queue.admit() {
            if let Some(bell) = self.bells.get(&number) {
                bell.notify_one();
            }
        }
    }
}

/// One large transfer's place, given back when it is dropped.
pub struct Turn {
    admission: Arc<Admission>,
    machine: IpAddr,
    number: u64,
    bell: Arc<Notify>,
}

impl Turn {
    /// The place among those who wait, 1 for the next; `None` when it is this one's turn.
    pub fn place(&self) -> Option<usize> {
        self.admission.lock().queue.place(self.number)
    }

    /// Returns when it is this one's turn. To be called once for each turn.
    pub async fn comes(&self) {
        self.bell.notified().await;
    }

    /// Lets others go first, if somebody waits, and says so: a client that takes nothing needs no turn.
    pub fn give_way(&mut self) -> bool {
        let mut state = self.admission.lock();
        if state.queue.waiting.is_empty() {
            return false;
        }
        state.queue.leave(self.number);
        state.bells.remove(&self.number);
        state.ring();
        self.number = state.queue.arrive(self.machine);
        // A ring that came for the last turn must not be taken for one of this.
        self.bell = Arc::new(Notify::new());
        state.bells.insert(self.number, Arc::clone(&self.bell));
        state.ring();
        true
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.queue.leave(self.number);
        state.bells.remove(&self.number);
        state.ring();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine(number: u8) -> IpAddr {
        [10, 77, 1, number].into()
    }

    #[test]
    fn in_order_of_arrival_and_nobody_twice_before_all_have_been() {
        let mut queue = Queue::new(2);
        // Machine 1 comes with four connections, 2 and 3 with one each.
        let numbers: Vec<u64> = [1, 1, 1, 1, 2, 3].map(|number| queue.arrive(machine(number))).into();
        assert_eq!(queue.place(numbers[0]), Some(1));
        assert_eq!(queue.admit(), [numbers[0], numbers[4]]);
        assert_eq!(queue.place(numbers[0]), None);
        assert_eq!(queue.place(numbers[5]), Some(1));
        assert_eq!(queue.place(numbers[1]), Some(2));
        queue.leave(numbers[0]);
        // Machine 1 has nothing under way, and was here before machine 3.
        assert_eq!(queue.admit(), [numbers[1]]);
        queue.leave(numbers[4]);
        assert_eq!(queue.admit(), [numbers[5]]);
        // Who waits may also leave.
        queue.leave(numbers[2]);
        queue.leave(numbers[5]);
        assert_eq!(queue.admit(), [numbers[3]]);
        assert!(queue.admit().is_empty());
    }

    #[test]
    fn who_gives_way_is_the_last() {
        let admission = Admission::new(1);
        let mut first = admission.arrive(machine(1));
        assert_eq!(first.place(), None);
        assert!(!first.give_way());
        let second = admission.arrive(machine(2));
        let third = admission.arrive(machine(3));
        assert_eq!((second.place(), third.place()), (Some(1), Some(2)));
        assert!(first.give_way());
        assert_eq!((first.place(), second.place(), third.place()), (Some(2), None, Some(1)));
        drop(second);
        drop(third);
        assert_eq!(first.place(), None);
    }

    proptest! {
        /// Whatever comes and goes: never more than so many at once, nobody waits beside an empty place, and each
        /// who waits has a place of its own.
        #[test]
        fn every_place_is_used_and_none_twice(at_once in 1_usize..4, steps in proptest::collection::vec((0_u8..4, 0_u8..6), 0..60)) {
            let admission = Admission::new(at_once);
            let mut turns: Vec<Turn> = Vec::new();
            for (step, which) in steps {
                match step {
                    0 | 1 => turns.push(admission.arrive(machine(which))),
                    2 if !turns.is_empty() => {
                        let at = usize::from(which) % turns.len();
                        turns.swap_remove(at);
                    }
                    _ => {
                        if let Some(turn) = turns.get_mut(usize::from(which))
                            && turn.place().is_none()
                        {
                            turn.give_way();
                        }
                    }
                }
                let mut places: Vec<usize> = turns.iter().filter_map(Turn::place).collect();
                places.sort_unstable();
                prop_assert_eq!(turns.len() - places.len(), turns.len().min(at_once));
                prop_assert!(places.iter().copied().eq(1..=places.len()));
                prop_assert_eq!(admission.lock().bells.len(), turns.len());
            }
        }
    }
}
