//! What can go wrong with a BMC, as sentences for whoever has to do something about it. None has a password in it.

use fleet::Timestamp;

use super::Power;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcError {
    #[error("{address:?} is not the address of a BMC; give HOST or HOST:PORT, and IPv6 in brackets")]
    Address { address: String },
    #[error(
        "the BMC at {address} did not answer within {secs} s; see that it has power and network, or try again"
    )]
    Silent { address: String, secs: u64 },
    #[error(
        "the BMC at {address} cannot be reached: {why}; see that the address is right and its network is there"
    )]
    Unreached { address: String, why: String },
    #[error("the BMC at {address} needs a name and a password; give it a login")]
    NoLogin { address: String },
    #[error("the BMC at {address} refuses the login of {user:?}; give the right name and password")]
    Refused { address: String, user: String },
    #[error(
        "the BMC at {address} has refused {refusals} logins in a row; so that it does not lock the account, none is \
         tried until {until}; set the right name and password meanwhile",
        refusals = super::budget::REFUSALS, until = clock(*until)
    )]
    Paused { address: String, until: Timestamp },
    #[error(
        "the BMC at {address} shows another certificate than the one that is recorded, and was sent nothing. Recorded: \
         {pinned}. Shown: {seen}. If it was given a new one, record that; if not, something stands in between"
    )]
    OtherCertificate { address: String, pinned: String, seen: String },
    #[error(
        "{pin:?} is not the SHA-256 of a certificate in hexadecimal; remove it, and what is seen is recorded"
    )]
    Pin { pin: String },
    #[error(
        "the BMC at {address} sends its visitors on to {to}, where nothing is sent; give the address of the BMC itself"
    )]
    Elsewhere { address: String, to: String },
    #[error("the BMC at {address} sends more than {limit} bytes for one question; is it a BMC?")]
    TooMuch { address: String, limit: usize },
    #[error("the BMC at {address} answers {step} with {said}; look at its own page, or restart the BMC")]
    Unclear { address: String, step: String, said: String },
    #[error("the BMC at {address} has no machine {wanted:?} but {there}; is it the BMC of another machine?")]
    OtherMachine { address: String, wanted: String, there: String },
    #[error("the BMC at {address} has several machines: {there}; say which is meant")]
    Several { address: String, there: String },
    #[error("the BMC at {address} has no way to {what}; do it by hand, or by another agent")]
    Lacks { address: String, what: String },
    #[error(
        "the machine of the BMC at {address} is not known to be {wanted}: {why}. Switch it {wanted} by another way, and \
         look at it"
    )]
    Unproven { address: String, wanted: Power, why: String },
    #[error(
        "nothing can be asked over Wake-on-LAN, and it switches on only; look at the machine, or give it a BMC"
    )]
    OnlyWakes,
    #[error(
        "the magic packet for {mac} could not be sent from {from}: {why}; is that an address of this appliance?"
    )]
    Unsent { mac: fleet::Mac, from: String, why: String },
    #[error("{agent:?} is not the name of a fence agent: fence_ and small letters, digits, _")]
    AgentName { agent: String },
    #[error(
        "the fence agent {agent} is not in {folder}; install Debian's package fence-agents, or take another agent"
    )]
    AgentMissing { agent: String, folder: String },
    #[error("the option {option:?} cannot be given to a fence agent: {why}")]
    AgentOption { option: String, why: &'static str },
    #[error(
        "{program} could not speak to the BMC at {address}: {why}; see that its address, login and options are right"
    )]
    Failed { program: String, address: String, why: String },
    #[error("{program} could not be started: {why}; is it installed?")]
    NotStarted { program: String, why: String },
    #[error("none of the logins {tried} works at the BMC at {address}; add the right one to the list")]
    NoneWorks { address: String, tried: String },
}

impl BmcError {
    pub(super) fn unclear(address: &str, step: impl Into<String>, said: impl Into<String>) -> BmcError {
        BmcError::Unclear { address: address.to_owned(), step: step.into(), said: brief(&said.into()) }
    }
}

/// What others wrote, in one line and not too long.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 200;
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST).chain(['…']).collect()
}

fn clock(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map_or_else(
        || "later".to_owned(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S %:z").to_string(),
    )
}
