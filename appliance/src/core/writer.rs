//! The one who writes: decides what waits, makes it durable in one commit, publishes it, and answers.
//!
//! ```text
//! orders ─▶ decide ─▶ append at last + 1 ─┬─ done ──────▶ evolve, publish, answer
//!              ▲                          ├─ conflict ──▶ read what others wrote, decide again
//!              └──────────────────────────┤
//!                                         ├─ in doubt ──▶ append the same again until it is there, or cannot be
//!                                         └─ away, full ▶ refuse
//! ```

use std::sync::Arc;
use std::time::Duration;

use fleet::{Event, Fleet};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::order::{Order, decide};
use super::{Core, ExecuteError, Head, now};
use crate::store::{Fact, Record, StoreError};

/// Orders that are decided in one go, and so share a commit.
const GROUP: usize = 512;

/// A site where so many other daemons write first, again and again, has something wrong with it.
const CONFLICTS: usize = 100;

/// How long an order waits for the database to say what became of it.
const DOUBT: Duration = Duration::from_secs(20);

/// Between two attempts to find out.
const DOUBT_AGAIN: Duration = Duration::from_millis(200);

/// What nodes said to other daemons is looked for every so many polls, if no notification came.
const OBSERVED_POLLS: u32 = 10;

/// Rows read at once when others have written.
const PAGE: u32 = 4096;

pub(super) async fn run(
    core: Core,
    orders: mpsc::Receiver<Order>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut writer = Writer { core, orders, stuck: false };
    let store = writer.core.store().clone();
    let mut poll = tokio::time::interval(crate::store::POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut polls = 0_u32;
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            taken = writer.orders.recv_many(&mut group, GROUP) => {
                if taken == 0 {
                    return Ok(());
                }
                writer.carry_out(std::mem::take(&mut group)).await?;
            }
            heard = store.hear() => {
                if heard.observed {
                    writer.core.hear_observed();
                }
                if heard.position > writer.core.position() {
                    writer.follow().await;
                }
            }
            _ = poll.tick() => {
                writer.follow().await;
                polls = polls.wrapping_add(1);
                if polls.is_multiple_of(OBSERVED_POLLS) {
                    writer.core.hear_observed();
                }
            }
        }
    }
}

struct Writer {
    core: Core,
    orders: mpsc::Receiver<Order>,
    /// The log has something in it that this program cannot read; it was said.
    stuck: bool,
}

enum Settled {
    Written,
    NotWritten,
    Unknown(String),
}

impl Writer {
    /// Carries out what can be carried out and answers every order; fails when the process must not go on.
    async fn carry_out(&mut self, group: Vec<Order>) -> anyhow::Result<()> {
        for _ in 0..CONFLICTS {
            let head = self.core.head();
            let decided = decide(&head.fleet, &group);
            if decided.facts.is_empty() {
                let is_refused = |answer: &Result<_, _>| matches!(answer, Err(ExecuteError::Refused(_)));
                if decided.answers.iter().any(is_refused) && self.is_behind(head.position).await {
                    continue;
                }
                answer(group, decided.answers);
                return Ok(());
            }
            let begun = Instant::now();
            let written = self.core.store().append(head.position, &decided.facts).await;
            self.core.metrics().appended(begun.elapsed());
            self.core.store().tried(&written, now());
            let settled = match written {
                Ok(()) => Settled::Written,
                Err(StoreError::Conflict) => Settled::NotWritten,
                Err(StoreError::Doubt { .. }) => self.settle(head.position, &decided.facts).await,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "Commands were refused: {error}"
                    );
                    return refuse(group, error);
                }
            };
            match settled {
                Settled::Written => {
                    self.publish(head.position, decided.fleet, &decided.facts);
                    fail::fail_point!("append-published");
                    answer(group, decided.answers);
                    return Ok(());
                }
                Settled::NotWritten => {
                    if let Err(error) = self.catch_up().await {
                        return refuse(group, error);
                    }
                }
                Settled::Unknown(why) => {
                    refuse_all(group, || ExecuteError::Unknown(why.clone()));
                    return Ok(());
                }
            }
        }
        tracing::error!("Other daemons wrote first {CONFLICTS} times in a row; commands were refused");
        refuse(group, StoreError::Conflict)
    }

    /// Another daemon has written since: what is refused for the state before that may be right by now. With the
    /// database away it counts as not so, and refusals are those of what is known.
    async fn is_behind(&mut self, position: i64) -> bool {
        self.catch_up().await.is_ok() && self.core.position() > position
    }

    /// Finds out what became of an append whose answer was lost, by doing it again: the positions can be taken once.
    async fn settle(&mut self, last: i64, facts: &[Fact]) -> Settled {
        let until = Instant::now() + DOUBT;
        loop {
            let mut late = Vec::new();
            while let Ok(order) = self.orders.try_recv() {
                late.push(order);
            }
            let why = self.core.away().map_or_else(String::new, |away| away.why);
            refuse_all(late, || ExecuteError::Away(why.clone()));

            let again = self.core.store().append(last, facts).await;
            match again {
                Ok(()) => {
                    self.core.store().tried(&again, now());
                    return Settled::Written;
                }
                Err(StoreError::Conflict) => match self.core.store().are_there(last, facts).await {
                    Ok(ours) => {
                        self.core.store().tried(&Ok(()), now());
                        return if ours { Settled::Written } else { Settled::NotWritten };
                    }
                    Err(error) => tracing::debug!(%error, "What became of a change is not known yet"),
                },
                Err(error) => tracing::debug!(%error, "What became of a change is not known yet"),
            }
            if Instant::now() > until {
                return Settled::Unknown(why);
            }
            tokio::time::sleep(DOUBT_AGAIN).await;
        }
    }

    /// Takes in what others have appended. Also how it is found out that the database is back.
    async fn follow(&mut self) {
        match self.catch_up().await {
            Ok(()) => self.stuck = false,
            Err(error) if error.is_away() => {}
            Err(error) => {
                // Pages, DHCP and nodes go on with the fleet as it was; a new start says the same and ends.
                if !std::mem::replace(&mut self.stuck, true) {
                    let position = self.core.position();
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "The log cannot be followed past position {position}: {error}"
                    );
                }
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        loop {
            let position = self.core.position();
            let read = self.core.store().read(position, PAGE).await;
            self.core.store().tried(&read, now());
            let records = read?;
            if records.is_empty() {
                return Ok(());
            }
            self.take_in(position, &records);
        }
    }

    fn take_in(&self, last: i64, records: &[Record]) {
        let mut fleet = Fleet::clone(&self.core.fleet());
        for record in records {
            fleet::evolve(&mut fleet, &record.event);
        }
        self.show(last, fleet, records.len());
    }

    fn publish(&self, last: i64, fleet: Fleet, facts: &[Fact]) {
        for fact in facts {
            tracing::info!(subject = fact.event.subject(), actor = fact.actor, "{}", fact.event.sentence());
        }
        self.show(last, fleet, facts.len());
    }

    fn show(&self, last: i64, fleet: Fleet, events: usize) {
        let position = last + i64::try_from(events).unwrap_or(0);
        self.core.inner.head.send_replace(Head { fleet: Arc::new(fleet), position });
        self.core.bump();
    }
}

/// Whoever asked may have gone away; what was decided stands.
fn answer(group: Vec<Order>, answers: Vec<Result<Vec<Event>, ExecuteError>>) {
    for (order, answer) in group.into_iter().zip(answers) {
        let _ = order.reply.send(answer);
    }
}

fn refuse_all(group: Vec<Order>, error: impl Fn() -> ExecuteError) {
    for order in group {
        let _ = order.reply.send(Err(error()));
    }
}

/// Refuses everything: a refusal of the core, too, may rest on a change of the same group that was not made.
fn refuse(group: Vec<Order>, error: StoreError) -> anyhow::Result<()> {
    if error.is_away() {
        let why = error.why();
        refuse_all(group, || ExecuteError::Away(why.clone()));
        return Ok(());
    }
    let error = Arc::new(error);
    refuse_all(group, || ExecuteError::NotDurable(Arc::clone(&error)));
    match &*error {
        StoreError::Sync { .. } => {
            Err(anyhow::Error::new(error).context("the log can no longer be trusted to this process"))
        }
        _ => Ok(()),
    }
}
