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
/// In rounds: of those who wait, each machine has its first transfer in this round, its second in the next, and so on,
/// so that one with many connections gets no more than one with few. In a round it is the order of arrival.
#[derive(Debug)]
struct Queue {
    at_once: usize,
    /// In the order in which they are served.
    waiting: BTreeMap<Number, IpAddr>,
    sending: BTreeMap<Number, IpAddr>,
    /// Of the last that was let in.
    round: u64,
    arrivals: u64,
}

/// A transfer: its round, and how many arrived before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    round: u64,
    arrival: u64,
}

impl Queue {
    fn new(at_once: usize) -> Self {
        let (waiting, sending) = (BTreeMap::new(), BTreeMap::new());
        Self { at_once: at_once.max(1), waiting, sending, round: 0, arrivals: 0 }
    }

    fn arrive(&mut self, machine: IpAddr) -> Number {
        let all = self.sending.iter().chain(&self.waiting);
        let last = all.filter(|(_, other)| **other == machine).map(|(number, _)| number.round).max();
        let round = last.map_or(self.round, |last| self.round.max(last + 1));
        let number = Number { round, arrival: self.arrivals };
        self.arrivals += 1;
        self.waiting.insert(number, machine);
        number
    }

    /// Makes one that sends the last of all who wait, whichever round they are in.
    fn go_back(&mut self, number: Number, machine: IpAddr) -> Number {
        self.leave(number);
        let round = self.waiting.last_key_value().map_or(self.round, |(last, _)| last.round.max(self.round));
        let number = Number { round, arrival: self.arrivals };
        self.arrivals += 1;
        self.waiting.insert(number, machine);
        number
    }

    fn leave(&mut self, number: Number) {
        self.waiting.remove(&number);
        self.sending.remove(&number);
    }

    /// Lets in who is next, as long as there is room. Returns their numbers.
    fn admit(&mut self) -> Vec<Number> {
        let mut admitted = Vec::new();
        while self.sending.len() < self.at_once
            && let Some((number, machine)) = self.waiting.pop_first()
        {
            self.round = self.round.max(number.round);
            self.sending.insert(number, machine);
            admitted.push(number);
        }
        admitted
    }

    /// 1 is the next. `None` for who does not wait.
    fn place(&self, number: Number) -> Option<usize> {
        self.waiting.contains_key(&number).then(|| self.waiting.range(..=number).count())
    }
}

/// The turns of one server, shared by its connections.
pub struct Admission {
    state: Mutex<State>,
}

struct State {
    queue: Queue,
    /// Rings when it is the turn of who waits.
    bells: BTreeMap<Number, Arc<Notify>>,
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
    number: Number,
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
        state.bells.remove(&self.number);
        self.number = state.queue.go_back(self.number, self.machine);
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
        let numbers: Vec<Number> = [1, 1, 1, 1, 2, 3].map(|number| queue.arrive(machine(number))).into();
        assert_eq!(queue.place(numbers[0]), Some(1));
        assert_eq!(queue.admit(), [numbers[0], numbers[4]]);
        assert_eq!(queue.place(numbers[0]), None);
        assert_eq!(queue.place(numbers[5]), Some(1));
        assert_eq!(queue.place(numbers[1]), Some(2));
        queue.leave(numbers[0]);
        assert_eq!(queue.admit(), [numbers[5]]);
        // Machine 4 comes before machine 1 is there for the second time.
        let fourth = queue.arrive(machine(4));
        queue.leave(numbers[5]);
        assert_eq!(queue.admit(), [fourth]);
        queue.leave(numbers[4]);
        assert_eq!(queue.admit(), [numbers[1]]);
        // Whoever comes now is in the second round too; who waits may also leave.
        let fifth = queue.arrive(machine(5));
        assert_eq!((queue.place(fifth), queue.place(numbers[2])), (Some(1), Some(2)));
        queue.leave(numbers[2]);
        queue.leave(fourth);
        queue.leave(numbers[1]);
        assert_eq!(queue.admit(), [fifth, numbers[3]]);
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
        // Two who take nothing do not pass the turn to and fro before the second transfer of a third.
        let mut asleep = admission.arrive(machine(2));
        let awake = [admission.arrive(machine(3)), admission.arrive(machine(3))];
        assert!(first.give_way());
        assert!(asleep.give_way());
        let [once, twice] = awake;
        assert_eq!((once.place(), twice.place()), (None, Some(1)));
        drop(once);
        assert_eq!((twice.place(), first.place(), asleep.place()), (None, Some(1), Some(2)));
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
