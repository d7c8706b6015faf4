//! Machines in their initrd: reports, the kickstart file, and how the installation went.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use fleet::machine::{Machine, Phase};
use fleet::wire::{
    Checked, EraseOutcome, Erased, Failed, Installed, Instruction, Progress, Proof, Report, ReportReply, Said,
};
use fleet::{Command, Fleet, MachineId, Plan, machine};
use pxe::kickstart::{self, KickstartFacts};

use super::NodeError;
use super::member::myself;
use crate::App;
use crate::core::{Actor, ExecuteError, now};
use crate::systems;
use crate::tls::Peer;
use crate::tokens::Tokens;

/// A report is answered after so long at the latest, so that the machine's screen stays alive.
const HOLD: Duration = Duration::from_secs(10);

/// Image partition: two versions of the system image.
const IMAGE_MIB: u32 = 2048;

pub(super) async fn report(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(report): Json<Report>,
) -> Result<Json<ReportReply>, NodeError> {
    let mac = report.hardware.boot_mac;
    let mut fleet = app.core.watch_fleet();
    fleet.mark_unchanged();
    let command = Command::Report { key: peer.key.clone(), hardware: report.hardware };
    let refused = match app.core.execute(&Actor::Wire(mac), command).await {
        Ok(_) => None,
        Err(ExecuteError::Refused(refusal)) => Some(refusal.to_string()),
        Err(error) => return Err(error.into()),
    };
    learn(&app, &peer, mac).await;
    let known = app.core.fleet();
    let found = machine::by_key(&known, &peer.key).or_else(|| machine::by_mac(&known, mac));
    let Some(found) = found else {
        return Err(NodeError { status: StatusCode::CONFLICT, sentence: refused.unwrap_or_default() });
    };
    if let Some(reason) = refused {
        app.core.note(&found.id.to_string(), "refused", format!("A report was refused: {reason}"));
        return Ok(Json(ReportReply { machine: found.id, instruction: Instruction::Wait { reason } }));
    }
    let id = found.id;
    let macs: Vec<pxe::MacAddr> = found.macs.iter().map(|mac| pxe::MacAddr(mac.0)).collect();
    app.core.journal().heard(&macs, now().0);
    for command in fleet::news_of_neighbours(&known, found, &report.neighbours) {
        // What it hears decides nothing about it.
        if let Err(error) = app.core.execute(&Actor::Node(fleet::NodeId::Machine(id)), command).await {
            tracing::debug!(machine.id = %id, %error, "A neighbour was not taken");
        }
    }
    let busy = matches!(found.phase, Phase::Installing { .. } | Phase::Erasing(_));
    if !busy && machine::wanted_check(found).is_none() {
        // Held until something is decided about it, so that a click is carried out at once.
        let _ = tokio::time::timeout(HOLD, async {
            while fleet.changed().await.is_ok() {
                let now = fleet.borrow_and_update().fleet.machines.get(&id).cloned();
                let waits = now.is_some_and(|now| {
                    machine::wanted_check(&now).is_none()
                        && matches!(
                            now.phase,
                            Phase::Sighted | Phase::Reported | Phase::Failed { .. } | Phase::Retired
                        )
                });
                if !waits {
                    break;
                }
            }
        })
        .await;
    }
    let instruction = instruction(&app.core.fleet(), &app.core.plan(), &app.tokens, id);
    Ok(Json(ReportReply { machine: id, instruction }))
}

/// Where another DHCP server gives the addresses, a machine has the one that it speaks from.
pub(super) async fn learn(app: &App, peer: &Peer, mac: fleet::Mac) {
    let fleet = app.core.fleet();
    let std::net::IpAddr::V4(address) = peer.address.ip().to_canonical() else { return };
    let foreign = fleet.site.as_ref().is_some_and(|site| site.foreign);
    if !foreign || fleet.leases.given.holder(address) == Some(mac) {
        return;
    }
    if let Err(error) = app.core.execute(&Actor::Wire(mac), Command::Learn { mac, address }).await {
        tracing::debug!(%error, "The address of {mac} was not learnt");
    }
}

/// What a machine that has reported is told; `plan` says what a machine waits for that nothing is done with.
pub fn instruction(fleet: &Fleet, plan: &Plan, tokens: &Tokens, id: MachineId) -> Instruction {
    let Some(machine) = fleet.machines.get(&id) else {
        return Instruction::Wait {
            reason: "it was removed; it will be taken up again at its next report".to_owned(),
        };
    };
    match &machine.phase {
        Phase::Installing { .. } if machine.system.is_some() => match systems::boot(fleet, tokens, machine) {
            Ok(_) => Instruction::Reboot,
            Err(reason) => Instruction::Wait { reason },
        },
        Phase::Installing { attempt, kickstart_served: false, .. } => {
            Instruction::Install { token: tokens.install(id, *attempt) }
        }
        // Adopted while this report was held: the next one, in two seconds, starts the installation.
        Phase::Adopted { .. } | Phase::Installing { .. } => {
            Instruction::Wait { reason: "it is adopted; the installation starts".to_owned() }
        }
        Phase::Installed | Phase::Ready => Instruction::Reboot,
        Phase::Erasing(erasing) => match erasing.current() {
            Some(disk) => Instruction::Erase(Box::new(disk)),
            // Asked for while this report was held: the next one, in two seconds, is given the first disk.
            None => Instruction::Wait { reason: "its disks are to be erased".to_owned() },
        },
        Phase::Retired => Instruction::Wait {
            reason: format!(
                "{} is retired; eli machine unretire {} takes it back",
                machine.name, machine.name
            ),
        },
        Phase::Sighted | Phase::Reported | Phase::Failed { .. } => {
            if let Some(number) = machine::wanted_check(machine) {
                return Instruction::Check { number };
            }
            let waits = plan.waiting_of(fleet::Subject::Machine(id)).first();
            Instruction::Wait {
                reason: waits
                    .map_or_else(|| machine.phase.word().to_owned(), |waiting| waiting.what.to_string()),
            }
        }
    }
}

/// The machine whose install token this is, if the one who shows it is that machine.
fn holder(app: &App, peer: &Peer, token: &str) -> Result<(Arc<Machine>, u32), NodeError> {
    let fleet = app.core.fleet();
    let Some((id, attempt)) = app.tokens.read_install(token) else {
        if let Some(machine) = machine::by_key(&fleet, &peer.key) {
            app.core.note(
                &machine.id.to_string(),
                "refused",
                "Showed an install token that is not ours".to_owned(),
            );
        }
        return Err(NodeError::forbidden("this is not an install token of this site"));
    };
    let Some(machine) = fleet.machines.get(&id) else {
        return Err(NodeError::forbidden(format!("there is no machine {id} any more")));
    };
    if machine.key.as_deref() != Some(&peer.key) {
        let by =
            format!("Somebody at {} showed this machine's install token with another key", peer.address.ip());
        app.core.note(&id.to_string(), "refused", by);
        return Err(NodeError::forbidden(format!("this install token belongs to {}", machine.name)));
    }
    Ok((Arc::clone(machine), attempt))
}

pub(super) async fn kickstart(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
) -> Result<impl IntoResponse, NodeError> {
    let (machine, attempt) = holder(&app, &peer, &token)?;
    // Rendered first: a token must not be used up by a file that cannot be made.
    let text = render(&app, &machine, &token)
        .map_err(|error| NodeError::internal("rendering the kickstart file", error))?;
    let id = machine.id;
    let served = Command::ServeKickstart { machine: id, attempt };
    match app.core.execute(&Actor::Node(fleet::NodeId::Machine(id)), served).await {
        Ok(_) => Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)),
        Err(ExecuteError::Refused(refusal)) => {
            app.core.note(
                &id.to_string(),
                "refused",
                format!("Its kickstart file was asked for again: {refusal}"),
            );
            Err(NodeError::forbidden(refusal.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn render(app: &App, machine: &Machine, token: &str) -> anyhow::Result<String> {
    use anyhow::Context as _;
    let fleet = app.core.fleet();
    let site = fleet.site.as_ref().context("the site is not founded")?;
    let Phase::Installing { disk, .. } = &machine.phase else { anyhow::bail!("it is not being installed") };
    let hardware = machine.hardware.as_ref().context("its hardware is not known")?;
    let manifest = crate::files::manifest(&app.files)?;
    let disk = disk.by_id.as_ref().context("its disk has no name that stays")?;
    let facts = KickstartFacts {
        title: format!("{} ({})", machine.name, machine.id),
        hostname: machine.name.parse()?,
        nic: pxe::MacAddr(hardware.boot_mac.0),
        disk: disk.trim_start_matches("/dev/").parse()?,
        image_mib: IMAGE_MIB,
        time_zone: "UTC".parse()?,
        ssh_keys: fleet.policy.ssh_keys.iter().map(|key| key.parse()).collect::<Result<_, _>>()?,
        appliance: site.address,
        ca_sha256: app.ca.sha256().parse()?,
        image_sha256: manifest.file("live.squashfs")?.sha256.parse()?,
        token: token.parse()?,
    };
    Ok(kickstart::render(&facts))
}

pub(super) async fn progress(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(progress): Json<Progress>,
) -> Result<StatusCode, NodeError> {
    let fleet = app.core.fleet();
    let subject = machine::by_key(&fleet, &peer.key)
        .map(|machine| machine.id.to_string())
        .or_else(|| peer.node.map(|node| node.to_string()));
    let Some(subject) = subject else { return Err(NodeError::forbidden("this key is not known here")) };
    let percent = progress.percent.map(|percent| format!(", {percent} %")).unwrap_or_default();
    app.core.note(&subject, "node", format!("{}{percent}", line(&progress.step)));
    Ok(StatusCode::NO_CONTENT)
}

/// The machine that speaks, known by the key of this start.
pub(super) fn speaker<'a>(fleet: &'a Fleet, peer: &Peer) -> Result<&'a Machine, NodeError> {
    machine::by_key(fleet, &peer.key).ok_or_else(|| NodeError::forbidden("this key is not known here"))
}

/// Of the places of a disk that cannot be read, so many are kept.
const NAMED: usize = 100;

/// More than a machine says in the second between two of its words.
const LONGEST_SAID: usize = 256 << 10;

pub(super) async fn said(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(said): Json<Said>,
) -> Result<StatusCode, NodeError> {
    let fleet = app.core.fleet();
    let machine = speaker(&fleet, &peer)?;
    if said.lines.iter().map(String::len).sum::<usize>() > LONGEST_SAID {
        let sentence = format!("more than {LONGEST_SAID} bytes were said at once");
        return Err(NodeError { status: StatusCode::PAYLOAD_TOO_LARGE, sentence });
    }
    app.consoles.heard.say(machine.id, &said.lines, now());
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

pub(super) async fn installed(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(installed): Json<Installed>,
) -> Result<StatusCode, NodeError> {
    let (machine, attempt) = holder(&app, &peer, &installed.token)?;
    let home = Command::PhoneHome { machine: machine.id, attempt };
    app.core.execute(&Actor::Node(fleet::NodeId::Machine(machine.id)), home).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of a disk that it was told to erase. What a machine says of another's disks is not taken.
pub(super) async fn erased(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(Erased { number, attempt, outcome }): Json<Erased>,
) -> Result<StatusCode, NodeError> {
    let fleet = app.core.fleet();
    let machine = speaker(&fleet, &peer)?.id;
    let outcome = match outcome {
        EraseOutcome::Failed { step, error } => {
            EraseOutcome::Failed { step: line(&step), error: line(&error) }
        }
        EraseOutcome::Done(proof) => EraseOutcome::Done(Proof { version: line(&proof.version), ..proof }),
    };
    let command = Command::ReportErased { machine, number, attempt, outcome };
    app.core.execute(&Actor::Node(fleet::NodeId::Machine(machine)), command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of reading its disks: from the initrd, or from a host agent.
pub(super) async fn checked(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(Checked { number, mut disks }): Json<Checked>,
) -> Result<StatusCode, NodeError> {
    let fleet = app.core.fleet();
    let machine = match peer.node {
        Some(fleet::NodeId::Machine(machine)) => {
            myself(&app, &peer, &machine.to_string())?;
            machine
        }
        Some(fleet::NodeId::Vm(_)) => return Err(NodeError::forbidden("a VM has no disks of its own")),
        None => speaker(&fleet, &peer)?.id,
    };
    for checked in &mut disks {
        checked.unreadable.truncate(NAMED);
        checked.error = checked.error.as_deref().map(line);
        let disk = &mut checked.disk;
        disk.path = line(&disk.path);
        for text in [&mut disk.by_id, &mut disk.serial, &mut disk.model] {
            *text = text.as_deref().map(line);
        }
    }
    let command = Command::ReportChecked { machine, number, disks };
    app.core.execute(&Actor::Node(fleet::NodeId::Machine(machine)), command).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn failed(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(failed): Json<Failed>,
) -> Result<StatusCode, NodeError> {
    let (machine, attempt) = holder(&app, &peer, &failed.token)?;
    let Failed { step, error, .. } = failed;
    let fail = Command::FailInstall { machine: machine.id, attempt, step, error };
    app.core.execute(&Actor::Node(fleet::NodeId::Machine(machine.id)), fail).await?;
    Ok(StatusCode::NO_CONTENT)
}
