//! Where the policy says so, a host makes an account for the appliance at its own BMC, from inside. It is the first login
//! that is tried there.

use serde::{Deserialize, Serialize};

use super::Event;
use crate::machine::{Machine, Phase, find};
use crate::{Fleet, MachineId, Refusal};

/// Its number among the logins that are tried; those of the list begin with 1.
pub const OWN: u32 = 0;

/// What it is called at every BMC.
pub const ACCOUNT: &str = "elisandra";

/// What came of it. A person who has the BMC looked for has it made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    Made,
    Refused,
}

/// Whether a host is to make one now.
pub fn wanted_account(fleet: &Fleet, machine: &Machine) -> bool {
    let seen = machine.hardware.as_ref().and_then(|hardware| hardware.bmc.as_ref());
    fleet.policy.bmc_accounts
        && !machine.appliance
        && matches!(machine.phase, Phase::Ready)
        && machine.power.bmc.is_none()
        && machine.power.account.is_none()
        && seen.is_some_and(|bmc| bmc.address.is_some())
}

/// What a host says came of it. A word that nobody waits for changes nothing.
pub(crate) fn account_made(
    fleet: &Fleet,
    id: MachineId,
    trouble: Option<&str>,
) -> Result<Vec<crate::Event>, Refusal> {
    if !wanted_account(fleet, find(fleet, id)?) {
        return Ok(Vec::new());
    }
    let event = match trouble {
        None => Event::AccountMade { machine: id },
        Some(why) => Event::AccountRefused { machine: id, why: why.to_owned() },
    };
    Ok(vec![crate::Event::Power(event)])
}
