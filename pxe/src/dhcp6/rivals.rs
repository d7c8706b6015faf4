//! Whether somebody else takes care of IPv6 on the link: a router that advertises, or a DHCPv6 server. Then this server
//! gives nothing, so that it never breaks a network that works.
//!
//! ```text
//! Listening ──2 s of silence──▶ Serving ──somebody is heard──▶ Beside ──not heard for long──▶ Serving
//!     └──────────────────────somebody is heard───────────────────▲
//! ```

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// Routers answer a solicitation within half a second, servers a SOLICIT within a second.
const LISTEN: Duration = Duration::from_secs(2);
/// Who was heard is there for at least so long: it is asked for again every minute.
const AT_LEAST: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct Rivals {
    /// When others were first asked to speak up: the interface may need a while to have an address.
    asked: OnceLock<Instant>,
    heard: Mutex<Option<Heard>>,
}

/// What this server may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Listening,
    Serving,
    /// This one takes care of IPv6.
    Beside(String),
}

#[derive(Debug)]
struct Heard {
    who: String,
    until: Instant,
}

impl Rivals {
    /// Others were asked to speak up; the first time counts.
    pub fn asked(&self, now: Instant) {
        self.asked.get_or_init(|| now);
    }

    /// Takes note of somebody, as the beginning of a sentence: `the router fe80::1`. True if that is news.
    pub fn heard(&self, who: String, lifetime: Duration, now: Instant) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let news = heard.as_ref().is_none_or(|heard| heard.until < now || heard.who != who);
        *heard = Some(Heard { who, until: now + lifetime.max(AT_LEAST) });
        news
    }

    pub fn standing(&self, now: Instant) -> Standing {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match &*heard {
            Some(heard) if now < heard.until => Standing::Beside(heard.who.clone()),
            _ if self.asked.get().is_none_or(|asked| now < *asked + LISTEN) => Standing::Listening,
            _ => Standing::Serving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_serves_when_nobody_is_heard_and_again_when_they_are_gone() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let rivals = Rivals::default();
        assert_eq!(rivals.standing(start), Standing::Listening);
        rivals.asked(after(3));
        rivals.asked(after(4));
        assert_eq!(rivals.standing(after(4)), Standing::Listening);
        assert_eq!(rivals.standing(after(5)), Standing::Serving);

        let router = || "the router fe80::1".to_owned();
        assert!(rivals.heard(router(), Duration::from_secs(1800), after(10)));
        assert!(!rivals.heard(router(), Duration::from_secs(1800), after(20)), "that is no news");
        assert_eq!(rivals.standing(after(1819)), Standing::Beside(router()));
        assert_eq!(rivals.standing(after(1820)), Standing::Serving);
        assert!(rivals.heard(router(), Duration::ZERO, after(2000)), "it came back");
        assert!(rivals.heard("the server fe80::2".to_owned(), Duration::ZERO, after(2001)));
        assert_ne!(rivals.standing(after(2300)), Standing::Serving);
        assert_eq!(rivals.standing(after(2301)), Standing::Serving);
    }
}
