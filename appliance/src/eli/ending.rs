//! How a command of `eli` ends: the exit code, and what to do next.

use anyhow::Error;
use axum::http::StatusCode;

use super::client::{NotReached, Refused};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Done,
    Refused,
    WronglyCalled,
    NotAllowed,
    NotReached,
    NotFound,
    TimedOut,
    NotConfirmed,
}

impl Ending {
    pub const ALL: [Ending; 8] = [
        Ending::Done,
        Ending::Refused,
        Ending::WronglyCalled,
        Ending::NotAllowed,
        Ending::NotReached,
        Ending::NotFound,
        Ending::TimedOut,
        Ending::NotConfirmed,
    ];

    pub fn code(self) -> u8 {
        match self {
            Ending::Done => 0,
            Ending::Refused => 1,
            Ending::WronglyCalled => 2,
            Ending::NotAllowed => 3,
            Ending::NotReached => 4,
            Ending::NotFound => 5,
            Ending::TimedOut => 6,
            Ending::NotConfirmed => 7,
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Ending::Done => "It was done, or there was nothing to do.",
            Ending::Refused => {
                "It was refused; nothing was changed, unless some of several things were named."
            }
            Ending::WronglyCalled => "The command was written wrongly; nothing was sent.",
            Ending::NotAllowed => "You are not logged in, or may not do this.",
            Ending::NotReached => {
                "The appliance does not answer, cannot answer now, or is not the one that is known here."
            }
            Ending::NotFound => "There is no such thing.",
            Ending::TimedOut => {
                "What was waited for did not happen in time; it goes on without being watched."
            }
            Ending::NotConfirmed => "It destroys something and was not confirmed; nothing was changed.",
        }
    }

    pub fn of(error: &Error) -> Ending {
        if let Some(own) = error.downcast_ref::<Own>() {
            return own.ending();
        }
        if error.downcast_ref::<NotReached>().is_some() {
            return Ending::NotReached;
        }
        match error.downcast_ref::<Refused>().map(|refused| refused.status) {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Ending::NotAllowed,
            Some(StatusCode::NOT_FOUND) => Ending::NotFound,
            Some(status) if status.is_server_error() => Ending::NotReached,
            Some(_) | None => Ending::Refused,
        }
    }
}

/// What `eli` itself ends with.
#[derive(Debug, thiserror::Error)]
pub enum Own {
    #[error("{0}")]
    NotLoggedIn(String),
    #[error("there is no {what} {name}")]
    Missing { what: String, name: String },
    #[error("{0}")]
    WronglyCalled(String),
    #[error("{0}")]
    TimedOut(String),
    #[error("{0}")]
    NotConfirmed(String),
    /// Another server answers, or something stands in between.
    #[error("{0}")]
    NotTrusted(String),
}

impl Own {
    pub fn missing(what: &str, name: &str) -> Own {
        Own::Missing { what: what.to_owned(), name: name.to_owned() }
    }

    fn ending(&self) -> Ending {
        match self {
            Own::NotLoggedIn(_) => Ending::NotAllowed,
            Own::Missing { .. } => Ending::NotFound,
            Own::WronglyCalled(_) => Ending::WronglyCalled,
            Own::TimedOut(_) => Ending::TimedOut,
            Own::NotConfirmed(_) => Ending::NotConfirmed,
            Own::NotTrusted(_) => Ending::NotReached,
        }
    }
}

/// What a person could do next, where the sentence does not say it already.
pub fn next_step(error: &Error) -> Option<String> {
    let sentence = error.root_cause().to_string();
    match Ending::of(error) {
        Ending::NotFound => lister(&sentence).map(|command| format!("{command} shows what there is")),
        Ending::NotAllowed if sentence.contains("this takes") => {
            Some("eli me says who you are; an admin can let you: eli user role NAME ROLE".to_owned())
        }
        Ending::NotAllowed if sentence.contains("is for") => {
            Some("eli me says what this token is for; eli token make makes another".to_owned())
        }
        Ending::NotReached if error.downcast_ref::<NotReached>().is_some() => Some(
            "is it on, and this computer on its network? Its own screen shows its address and state"
                .to_owned(),
        ),
        Ending::TimedOut => Some("eli timeline NAME says what it waits for".to_owned()),
        Ending::Done
        | Ending::Refused
        | Ending::WronglyCalled
        | Ending::NotAllowed
        | Ending::NotReached
        | Ending::NotConfirmed => None,
    }
}

/// The command that lists what `there is no …` is said of.
fn lister(sentence: &str) -> Option<&'static str> {
    let what = sentence.strip_prefix("there is no ")?;
    let commands = [
        ("machine", "eli machines"),
        ("host", "eli hosts"),
        ("VM", "eli vms"),
        ("vm", "eli vms"),
        ("service", "eli services"),
        ("package", "eli packages"),
        ("rack", "eli rack list"),
        ("switch", "eli switch list"),
        ("medium", "eli os list"),
        ("profile", "eli profile list"),
        ("subnet", "eli subnet list"),
        ("reservation", "eli reservation list"),
        ("lease", "eli lease list"),
        ("user", "eli user list"),
        ("session", "eli session list"),
    ];
    commands.into_iter().find(|(noun, _)| what.starts_with(noun)).map(|(_, command)| command)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_ending_has_a_code_of_its_own_and_errors_keep_theirs_under_what_is_said_above() {
        let codes: Vec<u8> = Ending::ALL.into_iter().map(Ending::code).collect();
        assert_eq!(codes, (0..8).collect::<Vec<u8>>());
        let missing = Err::<(), _>(Own::missing("machine", "m9")).context("adopting").unwrap_err();
        assert_eq!(Ending::of(&missing), Ending::NotFound);
        assert_eq!(next_step(&missing).unwrap(), "eli machines shows what there is");
        assert_eq!(Ending::of(&anyhow::anyhow!("no")), Ending::Refused);
        let refused = |status| Error::from(Refused { status, sentence: "no".to_owned() });
        for (status, ending) in
            [(401, 3), (403, 3), (404, 5), (409, 1), (422, 1), (429, 1), (500, 4), (503, 4)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Ending::of(&refused(status)).code(), ending, "{status}");
        }
    }
}
