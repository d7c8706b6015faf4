//! What a machine boots at its next start instead of what it would: for a person, and once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Boot, Event, by_mac, find};
use crate::{Ctx, Fleet, Mac, MachineId, Refusal};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Once {
    /// A shell of ours over the network.
    Rescue,
    /// The memory test.
    Memtest,
    /// Kernel and initrd that report what the machine is.
    Network,
    /// Its own disk.
    Disk,
}

impl From<Once> for Boot {
    fn from(once: Once) -> Self {
        match once {
            Once::Rescue => Self::Rescue,
            Once::Memtest => Self::MemoryTest,
            Once::Network => Self::Discover,
            Once::Disk => Self::Disk,
        }
    }
}

impl fmt::Display for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rescue => "the rescue system",
            Self::Memtest => "the memory test",
            Self::Network => "over the network, to report what it is",
            Self::Disk => "its own disk",
        })
    }
}

/// `None` takes back what was asked for.
pub(crate) fn ask(
    fleet: &Fleet,
    id: MachineId,
    once: Option<Once>,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    let machine = find(fleet, id)?;
    if machine.appliance {
        return Err(Refusal::Conflict(format!(
            "the appliance runs on {}; what it boots is chosen at its own boot loader",
            machine.name
        )));
    }
    if machine.once == once {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Machine(Event::OnceAsked { machine: id, once, at: ctx.now })])
}

/// Its boot loader was given the script.
pub(crate) fn booted(fleet: &Fleet, mac: Mac, ctx: Ctx) -> Vec<crate::Event> {
    let asked = by_mac(fleet, mac).and_then(|machine| Some((machine.id, machine.once?)));
    let used = |(machine, once)| crate::Event::Machine(Event::OnceBooted { machine, once, at: ctx.now });
    asked.map(used).into_iter().collect()
}
