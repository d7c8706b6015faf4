//! What a machine's power waits for, and what is done about a host that is silent.

use super::Look;
use crate::power::{self, Fence, Order, Way};
use crate::{Command, Fleet, NodeId, Observed, ObservedNode, Timestamp, host, machine, vm};

/// A word may be on its way while its machine is being switched off.
const LAST_WORDS_MS: u64 = 5000;

pub(super) fn plan(fleet: &Fleet, machine: &machine::Machine, observed: &Observed, look: &mut Look) {
    let seen = observed.get(&NodeId::Machine(machine.id)).map(AsRef::as_ref);
    match (&machine.power.fence, &machine.power.order) {
        (Some(Fence { off: Some(off), .. }), _) => fenced(machine, *off, seen, look),
        (Some(fence), _) => {
            let what = cutting(machine, fence);
            let hint = "it is tried again by itself; or pull its plug and say so: eli host fence NAME --off";
            let trouble = fence.trouble.is_some() || fence.strip_trouble.is_some();
            wait(machine, fence.since, what, hint, trouble, look);
        }
        (None, Some(order)) => ordered(machine, order, look),
        (None, None) => {
            if let Some(host) = fleet.hosts.get(&machine.id).filter(|_| !machine.appliance) {
                silent(fleet, machine, host, observed, look);
            }
        }
    }
}

/// What goes on, and why it was not proven yet.
fn cutting(machine: &machine::Machine, fence: &Fence) -> String {
    let next = power::tries(machine).into_iter().find(|it| match it.way {
        Way::Bmc => fence.trouble.is_none(),
        Way::Strips => fence.strip_trouble.is_none(),
    });
    let next = match next.map(|next| next.way) {
        Some(Way::Bmc) => Some("its BMC switches it off"),
        Some(Way::Strips) => Some("its power strip switches it off"),
        None => None,
    };
    let troubles: Vec<&str> =
        [&fence.trouble, &fence.strip_trouble].into_iter().flatten().map(String::as_str).collect();
    match (troubles.is_empty(), next) {
        (true, next) => format!("is being fenced: {}", next.unwrap_or("nothing can switch it off any more")),
        (false, next) => {
            let all: Vec<&str> = troubles.into_iter().chain(next).collect();
            format!("is being fenced, and is not proven to be off: {}", all.join("; "))
        }
    }
}

fn ordered(machine: &machine::Machine, order: &Order, look: &mut Look) {
    let done = order.action.done();
    match &order.trouble {
        Some(trouble) => {
            let what = format!("is to be {done}: {trouble}");
            wait(
                machine,
                order.since,
                what,
                "it is tried again by itself; cancel it to stop that",
                true,
                look,
            );
        }
        None => {
            let what = format!("is to be {done}");
            wait(machine, order.since, what, "look at its BMC, or cancel it", false, look);
        }
    }
}

/// The hint is given where there is trouble, and once it is late.
fn wait(
    machine: &machine::Machine,
    since: Timestamp,
    what: String,
    hint: &'static str,
    trouble: bool,
    look: &mut Look,
) {
    let late = look.over(since, power::LIMIT_SECS);
    if late && machine.late.is_none() {
        look.act(Command::RecordLate { subject: look.subject, what: what.clone() });
    }
    look.wait_since(since, what, Some(hint).filter(|_| late || trouble));
}

/// One that is off and speaks was switched on by somebody, or was never off.
fn fenced(machine: &machine::Machine, off: Timestamp, seen: Option<&ObservedNode>, look: &mut Look) {
    let by_strips = machine.power.fence.as_ref().is_some_and(|fence| fence.proven == Some(Way::Strips));
    let spoke = seen.filter(|node| node.at.0 > off.0.saturating_add(LAST_WORDS_MS));
    match spoke {
        Some(node) if node.said.uptime_secs <= node.at.secs_since(off) => {
            look.act(Command::Unfence { machine: machine.id, on: false });
        }
        Some(_) if power::is_to_be_doubted(machine) => {
            look.act(Command::DoubtOff { machine: machine.id });
            look.wait_since(
                off,
                "its BMC said that it is off, and it goes on speaking: its power strip is about to switch it off",
                None,
            );
        }
        Some(_) if by_strips => look.wait_since(
            off,
            "its power strip said that it is off, and it goes on speaking: its outlets are other ones",
            Some("pull its plug; then set the right outlets"),
        ),
        Some(_) => look.wait_since(
            off,
            "its BMC said that it is off, and it goes on speaking: the BMC lies, or is another machine's",
            Some("pull its plug; then set the right BMC"),
        ),
        None => {
            look.wait_since(off, "is fenced and off", Some("unfence it, which switches it on, or reimage it"))
        }
    }
}

fn silent(
    fleet: &Fleet,
    machine: &machine::Machine,
    host: &host::Host,
    observed: &Observed,
    look: &mut Look,
) {
    let Some(node) = observed.get(&NodeId::Machine(machine.id)) else { return };
    if let Some(since) = host.suspected_since {
        if node.at > since {
            return look.act(Command::ObserveHeard { machine: machine.id });
        }
        if let Some(what) = lives(fleet, machine, observed, look) {
            return look.wait_since(since, what, Some("look at its host agent and at its cable"));
        }
        match power::obstacle(fleet, machine, look.now) {
            None => {
                look.act(Command::FenceSuspect { machine: machine.id });
                look.wait_since(since, "its host agent is silent; it is about to be fenced", None);
            }
            Some(obstacle) => {
                look.due(obstacle.until);
                let what = format!("its host agent is silent: {}", obstacle.why);
                let hint = "is it switched on and plugged in? Fence it, and what ran on it can run elsewhere";
                look.wait_since(since, what, Some(hint));
            }
        }
        return;
    }
    // What was said before it was installed again is another system's silence.
    let quiet_since = node.at.max(host.ready_since).max(host.patience_until.unwrap_or_default());
    if look.over(quiet_since, fleet.policy.fencing.silent_secs) {
        look.act(Command::Suspect { machine: machine.id, since: node.at });
        look.wait_since(node.at, "its host agent is silent", Some("is it switched on and plugged in?"));
    }
}

/// A host whose VMs speak runs, whatever its own agent does.
fn lives(fleet: &Fleet, machine: &machine::Machine, observed: &Observed, look: &mut Look) -> Option<String> {
    let silent_secs = fleet.policy.fencing.silent_secs;
    let last = vm::on_host(fleet, machine.id)
        .filter_map(|vm| Some((vm, observed.get(&NodeId::Vm(vm.id))?.at)))
        .max_by_key(|(vm, at)| (*at, vm.id));
    let (vm, at) = last?;
    let speaks = !look.over(at, silent_secs);
    speaks.then(|| {
        format!("its host agent is silent, and its VM {} speaks: it runs, so it is not fenced", vm.name)
    })
}

/// A VM whose host is off waits for it, or is made anew elsewhere.
pub(super) fn without_host(vm: &vm::Vm, off: Timestamp, look: &mut Look) {
    if vm::may_move(vm) {
        look.act(Command::RecoverVm { vm: vm.id });
        let hint = "make room: add a host, or remove other VMs";
        return look.wait_since(off, "its host is fenced; it is made anew where there is room", Some(hint));
    }
    look.wait_since(
        off,
        "its host is fenced and off, and its disk is there",
        Some(
            "unfence the host; or recover the VM, which makes it anew elsewhere without what is on its disk",
        ),
    );
}
