//! Ordering on or off, and believing it only when the BMC was asked again.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;
use super::{BmcError, Limits, Power};

/// How long a machine is watched whose BMC did not take the order.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// The answers heard since the order.
#[derive(Debug)]
pub struct Proof {
    wanted: Power,
    apart: Duration,
    /// Since when nothing else was said than what is wanted.
    since: Option<Duration>,
    turns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proven,
    AskAgain,
}

impl Proof {
    pub fn of(wanted: Power, apart: Duration) -> Proof {
        Proof { wanted, apart, since: None, turns: 0 }
    }

    /// `said` is None where the BMC said nothing, or neither on nor off; `at` counts from the order.
    pub fn hear(&mut self, said: Option<Power>, at: Duration) -> Verdict {
        if said != Some(self.wanted) {
            if self.since.take().is_some() {
                self.turns += 1;
            }
            return Verdict::AskAgain;
        }
        let since = *self.since.get_or_insert(at);
        // The first answer may be the order's echo: at least one more, and later.
        if at.saturating_sub(since) >= self.apart && at > since { Verdict::Proven } else { Verdict::AskAgain }
    }

    /// How often it was said and then taken back.
    pub fn turns(&self) -> u32 {
        self.turns
    }
}

/// Ok only after the BMC said twice that it is so.
pub(super) async fn switch(driver: &Driver, wanted: Power, limits: Limits) -> Result<(), BmcError> {
    if matches!(driver, Driver::Wake(_)) {
        return Err(BmcError::OnlyWakes);
    }
    let before = match driver.power().await {
        Ok(power) => Some(power),
        Err(BmcError::Unclear { .. }) => None,
        Err(error) => return Err(error),
    };
    // Off is ordered even if it is said to be so already: what it says may be old.
    let ordered = match before {
        Some(Power::On) if wanted == Power::On => Ok(()),
        _ => driver.order(wanted, before).await,
    };
    let settle = match &ordered {
        Ok(()) => limits.settle,
        // Many refuse to switch off what is off. What was answered to the order does not count; what is so afterwards
        // does.
        Err(BmcError::Unclear { .. } | BmcError::Silent { .. } | BmcError::Failed { .. }) => {
            limits.settle.min(AFTER_REFUSAL)
        }
        Err(error) => return Err(error.clone()),
    };
    let started = Instant::now();
    let mut proof = Proof::of(wanted, limits.apart);
    loop {
        let said = driver.power().await;
        if let Err(error @ BmcError::Refused { .. }) = said {
            return Err(error);
        }
        // Time is taken after the answer: what was said is not older than the question.
        if proof.hear(said.as_ref().ok().copied(), started.elapsed()) == Verdict::Proven {
            return Ok(());
        }
        if started.elapsed() >= settle {
            return Err(unproven(driver.address(), wanted, &proof, ordered.err(), said));
        }
        tokio::time::sleep(limits.apart).await;
    }
}

fn unproven(
    address: &str,
    wanted: Power,
    proof: &Proof,
    ordered: Option<BmcError>,
    last: Result<Power, BmcError>,
) -> BmcError {
    let said = match (ordered, last) {
        (Some(order), _) => order.to_string(),
        (None, Err(error)) => error.to_string(),
        (None, Ok(power)) => format!("it took the order and says {power}"),
    };
    let turns = match proof.turns() {
        0 => String::new(),
        turns => format!(", after it said {wanted} and took it back {turns} times"),
    };
    BmcError::Unproven { address: address.to_owned(), wanted, why: format!("{said}{turns}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(answers: &[(Option<Power>, u64)]) -> Vec<Verdict> {
        let mut proof = Proof::of(Power::Off, Duration::from_secs(1));
        answers.iter().map(|(said, millis)| proof.hear(*said, Duration::from_millis(*millis))).collect()
    }

    #[test]
    fn off_is_what_was_said_twice_a_second_apart_with_nothing_else_between() {
        use Power::{Off, On};
        use Verdict::{AskAgain, Proven};
        assert_eq!(heard(&[(Some(Off), 0), (Some(Off), 1000)]), [AskAgain, Proven]);
        assert_eq!(
            heard(&[(Some(Off), 0), (Some(Off), 900), (Some(Off), 1800)]),
            [AskAgain, AskAgain, Proven]
        );
        assert_eq!(
            heard(&[(Some(Off), 0), (Some(On), 1000), (Some(Off), 2000), (Some(Off), 3000)]),
            [AskAgain, AskAgain, AskAgain, Proven]
        );
        assert_eq!(
            heard(&[(Some(Off), 0), (None, 1000), (Some(Off), 2000), (None, 3000)]),
            [AskAgain; 4],
            "silence is not off"
        );
    }
}
