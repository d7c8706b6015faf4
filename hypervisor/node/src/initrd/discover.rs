//! A machine that was plugged in: it reports what it is, and does what the appliance says.

use std::time::Duration;

use anyhow::Context;
use fleet::Mac;
use fleet::wire::{
    EraseDisk, EraseOutcome, Erased, Failed, Hardware, Installed, Instruction, Progress, Report,
};
use nix::sys::reboot::{RebootMode, reboot};
use pxe::kickstart::{self, Ending, Kickstart};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;

use crate::check::{self, Pace};
use crate::client::{Backoff, Client, ClientError, until_heard};
use crate::cmdline::Appliance;
use crate::console::{say, say_error};
use crate::erase::{self, EraseFailed};
use crate::identity::Identity;
use crate::install::{InstallFailed, Installation, Progress as Hear};
use crate::inventory;
use crate::lldp::{self, Neighbours};
use crate::network::Network;

use super::{say_once, tale};

/// Between two reports of a machine that waits.
const PAUSE: Duration = Duration::from_secs(2);

/// Between two of one that checks its disks.
const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// Reports for ever; ends with a restart of the machine.
pub async fn run(appliance: &Appliance, boot_mac: Option<Mac>) -> anyhow::Result<()> {
    let identity = Identity::generate()?;
    let (_network, uplink) = Network::up(boot_mac, appliance.address).await?;
    let authority = super::authority(appliance).await;
    let client = Client::new(&authority, &identity)?;

    let neighbours = hear_neighbours();
    let mut said = String::new();
    let mut backoff = Backoff::default();
    let mut telling = false;
    loop {
        // Read again each time: a disk may be pulled out or plugged in while the machine waits.
        let hardware = inventory::this_machine(uplink.mac);
        let reply =
            match client.report(&Report { hardware: hardware.clone(), neighbours: neighbours.now() }).await {
                Ok(reply) => reply,
                Err(error) => {
                    say_once(&mut said, format!("{:#}. Still asking …", anyhow::Error::from(error)));
                    backoff.wait().await;
                    continue;
                }
            };
        backoff.reset();
        // Who has not reported is not known, and not listened to.
        if !std::mem::replace(&mut telling, true) {
            tokio::spawn(tale::tell(client.clone()));
        }
        let machine = reply.machine;
        match reply.instruction {
            Instruction::Wait { reason } => {
                say_once(
                    &mut said,
                    format!("Reported to {} as {machine}. Waiting: {reason}", appliance.address),
                );
                tokio::time::sleep(PAUSE).await;
            }
            Instruction::Install { token } => {
                say(format_args!("Reported to {} as {machine}. It is to be installed.", appliance.address));
                said.clear();
                install(&client, &identity, appliance, &hardware, &token).await;
                // It failed, and both the screen and the appliance have heard why. The next report says what now.
                tokio::time::sleep(PAUSE).await;
            }
            Instruction::Erase(job) => {
                say(format_args!("{} is to be erased.", job.disk));
                said.clear();
                erase(&client, *job).await;
                tokio::time::sleep(PAUSE).await;
            }
            Instruction::Check { number } => {
                say("Its disks are read from end to end; nothing on them is changed.");
                said.clear();
                let report = Report { hardware, neighbours: neighbours.now() };
                tokio::select! {
                    () = check::check(&client, number, Pace::Full, &|error| say_error(&error)) => say("All of them are read."),
                    () = wanted_no_more(&client, number, &report) => say("They are read no further."),
                }
            }
            Instruction::Reboot => super::restart().await,
        }
    }
}

/// Ends when the appliance says something else than that disks are to be checked.
async fn wanted_no_more(client: &Client, number: u32, report: &Report) {
    loop {
        tokio::time::sleep(CHECK_PAUSE).await;
        match client.report(report).await {
            Ok(reply) if reply.instruction == (Instruction::Check { number }) => {}
            Ok(_) => return,
            Err(error) => complain(error),
        }
    }
}

/// Switches speak every half minute; a machine that waits hears them, and one that is installed at once will.
fn hear_neighbours() -> Neighbours {
    let neighbours = Neighbours::default();
    let heard = neighbours.clone();
    tokio::spawn(async move {
        if let Err(error) = lldp::listen(heard, inventory::this_machines_nics, || {}).await {
            say(format_args!("Switches cannot be heard: {error}"));
        }
    });
    neighbours
}

/// One disk. The next report says what now.
async fn erase(client: &Client, job: EraseDisk) {
    let EraseDisk { number, attempt, .. } = job;
    let disk = job.disk.to_string();
    let (lines, teller) = tell(client);
    // It blocks for hours, and the appliance is to hear how far it is.
    let worked =
        tokio::task::spawn_blocking(move || erase::erase(&job, &mut Teller { lines, last: None })).await;
    told(teller).await;
    let outcome = match worked {
        Ok(Ok(proof)) => {
            say(format_args!("{disk} is erased: {proof}"));
            EraseOutcome::Done(proof)
        }
        Ok(Err(EraseFailed { step, error })) => {
            let error = format!("{error:#}");
            say(format_args!("{disk} is not erased ({step}): {error}"));
            EraseOutcome::Failed { step, error }
        }
        Err(panic) => EraseOutcome::Failed { step: "erasing it".to_owned(), error: panic.to_string() },
    };
    let erased = Erased { number, attempt, outcome };
    if let Err(error) = until_heard(|| client.erased(&erased), complain).await {
        say_error(&error.into());
    }
}

/// Told in the background: what the appliance thinks of a step must not hold the next one up.
fn tell(client: &Client) -> (UnboundedSender<Progress>, JoinHandle<()>) {
    let (lines, mut waiting) = mpsc::unbounded_channel::<Progress>();
    let client = client.clone();
    let teller = tokio::spawn(async move {
        while let Some(progress) = waiting.recv().await {
            if let Err(error) = client.progress(&progress).await {
                say_error(&error.into());
            }
        }
    });
    (lines, teller)
}

/// All that was said is to be on the timeline before the word that it is done.
async fn told(teller: JoinHandle<()>) {
    if tokio::time::timeout(Duration::from_secs(30), teller).await.is_err() {
        say("The appliance is slow to hear about the steps.");
    }
}

/// Returns only when the installation failed.
async fn install(
    client: &Client,
    identity: &Identity,
    appliance: &Appliance,
    hardware: &Hardware,
    token: &str,
) {
    let failed = match carry_out(client, identity, appliance, hardware, token).await {
        Ok(ending) => end(ending).await,
        Err(failed) => failed,
    };
    let error = format!("{:#}", failed.error);
    say(format_args!("The installation failed ({}): {error}", failed.step));
    let failed = Failed { token: token.to_owned(), step: failed.step, error };
    let told = until_heard(|| client.failed(&failed), complain).await;
    if let Err(error) = told {
        say_error(&error.into());
    }
}

async fn carry_out(
    client: &Client,
    identity: &Identity,
    appliance: &Appliance,
    hardware: &Hardware,
    token: &str,
) -> Result<Ending, InstallFailed> {
    let kickstart = fetch(client, token)
        .await
        .map_err(|error| InstallFailed { step: "fetching the kickstart file".to_owned(), error })?;

    let (lines, teller) = tell(client);
    let installation = Installation { kickstart: &kickstart, reported: hardware, appliance, identity };
    let done = installation.run(&mut Teller { lines, last: None }).await;
    told(teller).await;
    done?;

    say("Everything is on the disk. Phoning home …");
    let installed = Installed { token: token.to_owned() };
    until_heard(|| client.installed(&installed), complain)
        .await
        .map_err(|error| InstallFailed { step: "phoning home".to_owned(), error: error.into() })?;
    Ok(kickstart.ending)
}

async fn fetch(client: &Client, token: &str) -> anyhow::Result<Kickstart> {
    let text = client.kickstart(token).await?;
    kickstart::parse(&text).context("reading the kickstart file")
}

fn complain(error: ClientError) {
    say_error(&error.into());
}

async fn end(ending: Ending) -> ! {
    match ending {
        Ending::Reboot => super::restart().await,
        Ending::PowerOff => {
            say("Switching off.");
            let Err(error) = reboot(RebootMode::RB_POWER_OFF);
            say(format_args!("This machine does not switch itself off ({error})."));
            super::restart().await
        }
    }
}

/// Says each step on the screen and to the appliance.
struct Teller {
    lines: UnboundedSender<Progress>,
    last: Option<Progress>,
}

impl Hear for Teller {
    fn step(&mut self, step: &str, percent: Option<u8>) {
        let progress = Progress { step: step.to_owned(), percent };
        // Three commands that make volumes are one step.
        if self.last.as_ref() == Some(&progress) {
            return;
        }
        self.last = Some(progress.clone());
        match percent {
            Some(percent) => say(format_args!("{step}: {percent} %")),
            None => say(step),
        }
        // Nobody listens any more only when the installation is over.
        let _ = self.lines.send(progress);
    }
}
