//! Finding the login for a machine's own BMC: the operator's list is tried, one by one and far apart.
//!
//! BMCs lock an account, or everybody, after a handful of wrong passwords. So a try is in the log before it is made,
//! each login is tried once at an address, and never two within [`APART_SECS`], whatever restarts meanwhile.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Account, Bmc, Event, OWN, bmc};
use crate::machine::{Machine, Phase, find};
use crate::{Ctx, Fleet, MachineId, Refusal, Timestamp};

/// Counters of wrong passwords are forgotten after five minutes on most.
pub const APART_SECS: u64 = 600;

/// What was tried at the BMC of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    pub address: String,
    /// A person named the address; otherwise the machine said so itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// Numbers in the list.
    pub tried: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// When other addresses were tried last, as long as that counts: they may be the same BMC, and may be asked for again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, Timestamp>,
    /// It is not the login that is wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

impl Search {
    /// `before` is what was tried until now. A BMC that was asked a moment ago is not asked again for being asked for, and
    /// a machine that says another address each time does not have more logins tried for it.
    pub(super) fn at(address: &str, asked: bool, before: Option<&Search>) -> Search {
        let mut elsewhere = before.map(|before| before.elsewhere.clone()).unwrap_or_default();
        if let Some(before) = before
            && let Some(last) = before.last
        {
            elsewhere.insert(before.address.clone(), last);
        }
        let here = elsewhere.remove(address);
        let last = if asked { here } else { elsewhere.values().copied().chain(here).max() };
        Search { address: address.to_owned(), asked, tried: Vec::new(), last, elsewhere, stopped: false }
    }

    pub(super) fn tried(&mut self, number: u32, at: Timestamp) {
        self.tried.push(number);
        self.last = Some(at);
        self.elsewhere.retain(|_, last| rests(*last, at));
    }
}

fn rests(last: Timestamp, now: Timestamp) -> bool {
    now.0 < last.0.saturating_add(APART_SECS * 1000)
}

/// Where its BMC is looked for: what a person said, or what it reported itself.
pub fn searched_at(machine: &Machine) -> Option<String> {
    if machine.power.bmc.is_some() || machine.appliance {
        return None;
    }
    match &machine.phase {
        // Who is not adopted is nobody to send passwords for.
        Phase::Sighted | Phase::Reported | Phase::Retired => return None,
        Phase::Adopted { .. }
        | Phase::Installing { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Erasing(_) => {}
    }
    if let Some(search) = machine.power.search.as_ref().filter(|search| search.asked) {
        return Some(search.address.clone());
    }
    let address = machine.hardware.as_ref()?.bmc.as_ref()?.address?;
    Some(match address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    })
}

/// Which login is to be tried now, if any: first the account that its host made, then those of the list.
pub fn next_login(machine: &Machine, list: &[u32], now: Timestamp) -> Option<(String, u32)> {
    let address = searched_at(machine)?;
    let search = match machine.power.search.as_deref() {
        Some(search) if search.address == address => Cow::Borrowed(search),
        before => Cow::Owned(Search::at(&address, false, before)),
    };
    if search.stopped || search.last.is_some_and(|last| rests(last, now)) {
        return None;
    }
    let own = (machine.power.account == Some(Account::Made)).then_some(OWN);
    let listed = list.iter().copied().filter(|number| *number != OWN);
    let untried = own.into_iter().chain(listed).find(|number| !search.tried.contains(number));
    untried.map(|number| (address, number))
}

/// A person wants its BMC to be looked for, again if it was not found.
pub(crate) fn look(
    fleet: &Fleet,
    id: MachineId,
    address: Option<&str>,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let name = &machine.name;
    if let Some(bmc) = &machine.power.bmc {
        return Err(Refusal::Conflict(format!("{name} has a BMC: {bmc}; remove it first")));
    }
    let address = match address {
        Some(address) if bmc::is_address(address) => address.to_owned(),
        Some(address) => {
            return Err(Refusal::Invalid(format!("{address:?} is not usable as the address of a BMC")));
        }
        None => searched_at(machine).ok_or_else(|| {
            Refusal::Conflict(format!(
                "{name} says of no BMC where it is, or is not adopted; name it: eli bmc find {name} --address A"
            ))
        })?,
    };
    if machine.appliance || matches!(machine.phase, Phase::Sighted | Phase::Reported | Phase::Retired) {
        return Err(Refusal::Conflict(format!("{name} is {}; adopt it first", machine.phase.word())));
    }
    Ok(vec![crate::Event::Power(Event::SearchAsked { machine: id, address })])
}

/// Before it is sent.
pub(crate) fn try_login(
    fleet: &Fleet,
    id: MachineId,
    address: &str,
    number: u32,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if next_login(machine, &[number], ctx.now) != Some((address.to_owned(), number)) {
        return Err(Refusal::Conflict(format!(
            "login {number} of the list is not to be tried at the BMC of {} now",
            machine.name
        )));
    }
    // Two that say the same of themselves, or one that lies: the BMC would hear twice as many.
    let other = fleet.machines.values().find(|other| {
        other.id != id
            && (searched_at(other).as_deref() == Some(address)
                || other.power.bmc.as_ref().is_some_and(|bmc| bmc.address == *address))
    });
    if let Some(other) = other {
        return Err(Refusal::Conflict(format!(
            "the BMC at {address} is that of {} as well, as they say; set it by hand",
            other.name
        )));
    }
    let address = address.to_owned();
    Ok(vec![crate::Event::Power(Event::LoginTried { machine: id, address, number, at: ctx.now })])
}

/// The login of that number was taken, and is kept as that of its BMC.
pub(crate) fn take_login(
    fleet: &Fleet,
    id: MachineId,
    number: u32,
    bmc: &Bmc,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.power.bmc.is_some() {
        return Err(Refusal::Conflict(format!("{} has a BMC meanwhile", machine.name)));
    }
    let taken = Event::LoginTaken { machine: id, address: bmc.address.clone(), number };
    let mut events = vec![crate::Event::Power(taken)];
    events.extend(super::set_bmc(fleet, id, bmc)?);
    Ok(events)
}

/// None of the list is taken, or it is something else that is wrong (`stop`).
pub(crate) fn end_search(
    fleet: &Fleet,
    id: MachineId,
    stop: bool,
    why: &str,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    let Some(search) = &machine.power.search else { return Ok(Vec::new()) };
    let (address, why) = (search.address.clone(), why.to_owned());
    Ok(vec![crate::Event::Power(Event::SearchEnded { machine: id, address, stop, why })])
}
