//! What becomes of a VM whose host is fenced: it waits for its disk, or it is made anew elsewhere.

use serde::{Deserialize, Serialize};

use super::{Event, Phase, Vm, find, link_of, place};
use crate::{Ctx, Fleet, Refusal, VmId, machine, power, service};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recover {
    /// Its disk is on its host, and it waits for that.
    #[default]
    Wait,
    /// It is made anew from its image on another host, with its name and address: nothing on its disk is missed.
    Anew,
}

impl Recover {
    pub(crate) fn is_wait(&self) -> bool {
        *self == Recover::Wait
    }
}

/// Whether it is made anew elsewhere without asking.
pub(crate) fn may_move(vm: &Vm) -> bool {
    vm.recover == Recover::Anew && vm.phase != Phase::Removing
}

/// Makes it anew on another host; what was on its disk stays on the old one.
pub(crate) fn recover(fleet: &Fleet, id: VmId, ctx: Ctx) -> Result<Vec<crate::Event>, Refusal> {
    let vm = find(fleet, id)?;
    let old = super::host_name(fleet, vm);
    if vm.phase == Phase::Removing {
        return Err(Refusal::Conflict(format!("{} is being removed", vm.name)));
    }
    if power::off_since(fleet, vm.host).is_none() {
        return Err(Refusal::Conflict(format!(
            "{old} may run {} and is not proven to be off; fence it first",
            vm.name
        )));
    }
    // It keeps its address, so it stays in its network.
    let network = |host| machine::find(fleet, host).ok().map(|machine| link_of(fleet, machine.id));
    let home = network(vm.host);
    let host = place(fleet, &vm.needs(), |host| network(host.machine) == home)?;
    let host_name = machine::find(fleet, host.machine).map(|machine| machine.name.to_string())?;
    let moved = Event::Moved {
        vm: id,
        host: host.machine,
        host_name,
        leftovers: vec![format!(
            "volume {} stays on {old}'s disk until {old} speaks again",
            vm.volume_name()
        )],
        at: ctx.now,
    };
    let services = service::of_vm(fleet, id).filter_map(|service| service::restarting(service, ctx));
    Ok([crate::Event::Vm(moved)].into_iter().chain(services).collect())
}
