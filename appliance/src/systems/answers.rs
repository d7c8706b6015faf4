//! What an installer of another system asks for at `/boot/answers/TOKEN/FILE`, and what it says there.

use std::net::IpAddr;
use std::sync::Arc;

use fleet::machine::{Machine, Phase};
use fleet::profile::{self, Kind};
use fleet::{Command, Fleet, machine};

use super::{facts, render, template};
use crate::core::{Actor, Core};
use crate::dhcp::network6;
use crate::mirror::Trouble;
use crate::tokens::Tokens;

/// Answers, or a word from the installer that it is `done` or has `failed`. What is refused stands on the timeline of
/// the machine whose token it was.
///
/// Plain HTTP is what installers speak before they have anything to check a certificate with. So answers hold nothing
/// that opens more than the machine itself, and are given to its own address alone.
pub async fn answer(core: &Core, tokens: &Tokens, path: &str, from: IpAddr) -> Result<String, String> {
    let (token, file) = path.split_once('/').ok_or("the path is not one of answers")?;
    let fleet = core.fleet();
    let Some((id, adopted_at)) = tokens.read_answers(token) else {
        return Err("this is not a token of an installation".to_owned());
    };
    let machine =
        fleet.machines.get(&id).cloned().ok_or_else(|| format!("there is no machine {id} any more"))?;
    let refuse = |why: String| {
        let file: String = file.chars().filter(|c| !c.is_control()).take(80).collect();
        core.note(&id.to_string(), "refused", format!("Its {file} was asked for from {from}: {why}"));
        Err(why)
    };
    if !is_at(&fleet, &machine, from) {
        return refuse(format!("that is not an address of {}", machine.name));
    }
    if machine.system.as_ref().is_none_or(|system| system.adopted_at != adopted_at) {
        return refuse(format!("the token is of an installation of {} that is over", machine.name));
    }
    let attempt = match machine.phase {
        Phase::Installing { attempt, .. } => attempt,
        Phase::Sighted
        | Phase::Reported
        | Phase::Adopted { .. }
        | Phase::Installed
        | Phase::Ready
        | Phase::Failed { .. }
        | Phase::Erasing(_)
        | Phase::Retired => machine.attempts,
    };
    let carry_out = async |command| {
        let mac = machine.macs.first().copied().unwrap_or(fleet::Mac([0; 6]));
        core.execute(&Actor::Wire(mac), command).await.map_err(|error| error.to_string())
    };
    let said = match file.split_once('/').unwrap_or((file, "")) {
        ("done", "") => carry_out(Command::PhoneHome { machine: id, attempt }).await,
        ("failed", step) => {
            let step = word(step).unwrap_or_else(|| "installing".to_owned());
            let error = "its installer says so; its own screen and log say more".to_owned();
            carry_out(Command::FailInstall { machine: id, attempt, step, error }).await
        }
        _ => {
            // Made first: a file that cannot be made is no start of the installer.
            let text = match text(&fleet, tokens, &machine, file) {
                Ok(text) => text,
                Err(why) => return refuse(why),
            };
            match carry_out(Command::ServeAnswers { machine: id, attempt }).await {
                Ok(_) => {
                    let still = core
                        .fleet()
                        .machines
                        .get(&id)
                        .is_some_and(|machine| matches!(machine.phase, Phase::Installing { .. }));
                    return if still { Ok(text) } else { refuse("it was started too often".to_owned()) };
                }
                Err(why) => Err(why),
            }
        }
    };
    match said {
        Ok(_) => Ok("ok\n".to_owned()),
        Err(why) => refuse(why),
    }
}

/// Whether the address is leased to one of the machine's NICs. It is the connection's own: no header is asked.
fn is_at(fleet: &Fleet, machine: &Arc<Machine>, from: IpAddr) -> bool {
    at(fleet, from).is_some_and(|holder| holder.id == machine.id)
}

fn at(fleet: &Fleet, from: IpAddr) -> Option<&Machine> {
    let address = match from.to_canonical() {
        IpAddr::V4(address) => Some(address),
        // One that it gave itself (SLAAC) is leased to nobody.
        IpAddr::V6(address) => network6(fleet).and_then(|network| pxe::dhcp6::ipv4_of(network, address)),
    };
    machine::by_mac(fleet, fleet.leases.given.holder(address?)?)
}

/// An installer asked for a file that the mirror does not give: it waits for a person, who sees here why. A mirror keeps
/// the modules of the last kernels only, and an older installer wants those of its own.
pub fn mirror_in_trouble(core: &Core, mirror: &str, from: IpAddr, path: &str, trouble: Trouble<'_>) {
    let fleet = core.fleet();
    let installing = |machine: &&Machine| machine.system.is_some();
    if let Some(machine) = at(&fleet, from).filter(installing) {
        let path: String = path.chars().take(200).collect();
        let text = match trouble {
            Trouble::Missing => format!(
                "The mirror {mirror} has no {path}: its installer is of another time than the mirror. Import the \
                 installer that Debian gives out now, or name another mirror in /var/lib/elisandra/elisandra.toml"
            ),
            Trouble::Garbage(why) => format!(
                "The mirror {mirror} gives another {path}: {why}. Its installer asks again by itself, which helps once \
                 the mirror's own update is over; or name another mirror in /var/lib/elisandra/elisandra.toml"
            ),
        };
        core.note(&machine.id.to_string(), "mirror", text);
    }
}

fn word(step: &str) -> Option<String> {
    let good = (1..=80).contains(&step.len())
        && step.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_. ".contains(&b));
    good.then(|| step.to_owned())
}

fn text(fleet: &Fleet, tokens: &Tokens, machine: &Machine, file: &str) -> Result<String, String> {
    let system = machine.system.as_ref().ok_or("it gets our own system")?;
    let profile = profile::find(fleet, &system.profile)
        .ok_or_else(|| format!("there is no profile {} any more", system.profile))?;
    match (profile.kind, file) {
        (Kind::Debian, "preseed.cfg") | (Kind::Ubuntu, "user-data") | (Kind::Kickstart, "ks.cfg") => {
            let facts = facts(fleet, tokens, machine)?;
            render::render(profile.kind, &template(&profile)?, &facts).map_err(|error| error.to_string())
        }
        (Kind::Ubuntu, "meta-data") => {
            let id = system.adopted_at.0;
            Ok(format!("instance-id: {}-{id}\nlocal-hostname: {}\n", machine.id, machine.name))
        }
        (Kind::Ubuntu, "vendor-data" | "network-config") => Ok(String::new()),
        _ => Err(format!("a profile of the kind {} has no such file", profile.kind)),
    }
}
