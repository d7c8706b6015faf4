//! A simulated computer: from its power button through firmware, boot loader and initrd to an installed system.
//!
//! ```text
//! Off ─▶ firmware: DHCP ─▶ loader ─▶ (iPXE: DHCP) ─▶ script ─┬─▶ initrd: DHCP ─▶ report ⇄ wait ─▶ install ─▶ restart
//!  ▲              └──── no answer ──────────────▶ own disk ◀─┘
//!  └── power lost, at any moment                     └─▶ installed system: DHCP ─▶ host agent;  somebody's own system
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use fleet::wire::{
    self, Checked, Cpu, DiskChecked, DiskContent, EraseDisk, EraseOutcome, Hardware, Instruction, KnownDisk,
    Nic,
};
use fleet::{Mac, NodeId, VmId};
use hypervisor::{Fake, Hypervisor as _};
use node::cmdline::{self, Mode};
use rand::Rng as _;

use super::bmc::{Bmc, OUTLETS, Strip};
use super::dhcp::{self, Client, Offer, Said};
use super::guest::Guest;
use super::host::Host;
use super::speech::{Alarm, Answer, Loader, Question, Speaker};
use super::{Happening, World};

/// Milliseconds that stages take.
const POST: u64 = 4_000;
const LOADER: u64 = 1_000;
const INITRD: u64 = 8_000;
const SYSTEM: u64 = 12_000;
const RESTART: u64 = 2_000;
const NOTHING_TO_BOOT: u64 = 30_000;
/// Between two reports, and how long an answer is waited for.
const PAUSE: u64 = 2_000;
pub const ANSWER: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
    UefiHttp,
}

/// What is on the disk of a computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Blank,
    /// Somebody's data.
    Data {
        what: String,
        label: Option<String>,
    },
    /// An installation that was begun.
    Begun,
    /// A complete installation: the key it speaks with, and its certificate once it has one.
    System {
        key: String,
        certificate: Option<NodeId>,
    },
}

pub struct Computer {
    pub name: String,
    pub mac: Mac,
    pub uuid: uuid::Uuid,
    pub serial: String,
    pub firmware: Firmware,
    pub memory_mib: u64,
    pub content: Content,
    /// Grows when it loses power or restarts.
    pub life: u32,
    pub state: State,
    pub address: Option<Ipv4Addr>,
    /// What the relay says that its packets come through.
    pub relay: Option<Ipv4Addr>,
    /// Name of the switch and of its port at the other end of its cable.
    pub cable: Option<(String, String)>,
    /// How long an installation takes, and what it fails with.
    pub install: u64,
    pub install_fails: Option<String>,
    /// The domains and volumes on its disk.
    pub hypervisor: Fake,
    pub images: BTreeSet<String>,
    pub guests: BTreeMap<VmId, Guest>,
    /// A person has said that what is on its disk may go.
    pub may_be_wiped: bool,
    pub bmc: Bmc,
    pub strip: Strip,
    /// Whether the outlet of each supply is on.
    pub outlets: [bool; OUTLETS],
    /// When it was switched on or restarted last, in milliseconds since the beginning.
    pub on_since: u64,
    /// The restart that its system was told to make last.
    pub restarted: Option<u64>,
    /// It hangs: nothing happens on it any more.
    pub frozen: bool,
}

pub enum State {
    Off,
    /// On its way to the next stage.
    Starting(Stage),
    Asking(Asking),
    Fetching {
        ask: u64,
    },
    Initrd(Initrd),
    Host(Box<Host>),
    /// Somebody's own system.
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Firmware,
    Ipxe,
    Script(Loader),
    Initrd,
    Disk,
    System,
}

/// A DHCP transaction of a stage.
#[derive(Debug, Clone)]
pub struct Asking {
    pub stage: Stage,
    pub client: Client,
    pub xid: u32,
    pub tries: u32,
    pub offer: Option<Offer>,
}

pub struct Initrd {
    key: String,
    doing: Doing,
    /// The question that is open.
    ask: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Reporting,
    FetchingKickstart { token: String },
    Installing { token: String },
    PhoningHome { token: String },
    TellingFailure { token: String, step: String, error: String },
    Erasing { job: Box<EraseDisk> },
    TellingErased { job: Box<EraseDisk>, outcome: EraseOutcome },
    Checking { number: u32 },
    TellingChecked { number: u32 },
}

impl Computer {
    /// What its disks are found to be: as broken as an installation on them.
    pub fn checked(&self, number: u32) -> Checked {
        let disks = self.hardware().disks;
        let checked = disks.iter().map(|disk| DiskChecked {
            disk: KnownDisk::of(disk),
            bytes_read: disk.bytes,
            seconds: self.install / 1000,
            unreadable: Vec::new(),
            unreadable_parts: 0,
            error: self.install_fails.clone(),
            health: None,
        });
        Checked { number, disks: checked.collect() }
    }

    /// One supply is enough.
    pub fn has_power(&self) -> bool {
        self.outlets.contains(&true)
    }

    fn hardware(&self) -> Hardware {
        let content = |what: &str, label: Option<&str>| DiskContent {
            path: "/dev/sda1".to_owned(),
            what: what.to_owned(),
            label: label.map(str::to_owned),
        };
        let contents = match &self.content {
            Content::Blank => Vec::new(),
            Content::Data { what, label } => vec![content(what, label.as_deref())],
            Content::Begun => vec![content("gpt", None), content("vfat", Some("ELI-ESP"))],
            Content::System { .. } => {
                vec![
                    content("gpt", None),
                    content("vfat", Some("ELI-ESP")),
                    content("ext4", Some("ELI-IMAGE")),
                ]
            }
        };
        Hardware {
            firmware: match self.firmware {
                Firmware::Bios => wire::Firmware::Bios,
                Firmware::Uefi | Firmware::UefiHttp => wire::Firmware::Uefi,
            },
            uuid: Some(self.uuid),
            manufacturer: None,
            product: None,
            serial: Some(self.serial.clone()),
            board_serial: None,
            cpu: Cpu { model: "simulated".to_owned(), sockets: 1, threads: 4, virtualization: true },
            memory_mib: self.memory_mib,
            disks: vec![wire::Disk {
                path: "/dev/sda".to_owned(),
                by_id: Some(format!("/dev/disk/by-id/ata-{}", self.serial)),
                serial: Some(self.serial.clone()),
                model: None,
                bytes: 100 << 30,
                rotational: false,
                removable: false,
                contents,
            }],
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac: self.mac,
                driver: None,
                carrier: true,
                speed_mbit: None,
            }],
            boot_mac: self.mac,
            bmc: None,
        }
    }

    fn client(&self) -> Client {
        match self.firmware {
            Firmware::Bios => Client::BiosFirmware,
            Firmware::Uefi => Client::UefiFirmware,
            Firmware::UefiHttp => Client::UefiHttpFirmware,
        }
    }
}

impl World {
    pub fn speaker(&self, id: usize) -> Speaker {
        Speaker { computer: id, guest: None, life: self.computers[id].life }
    }

    pub fn power_on(&mut self, id: usize) {
        if matches!(self.computers[id].state, State::Off) && self.computers[id].has_power() {
            self.stage(id, Stage::Firmware, POST);
        }
    }

    /// All that was in memory is gone, with the guests that ran.
    pub fn power_off(&mut self, id: usize) {
        let computer = &mut self.computers[id];
        computer.life += 1;
        computer.state = State::Off;
        computer.frozen = false;
        computer.address = None;
        for vm in computer.hypervisor.vms().unwrap_or_default() {
            computer.hypervisor.stop(vm.id);
        }
        for guest in computer.guests.values_mut() {
            guest.stop();
        }
    }

    pub fn restart(&mut self, id: usize, pause: u64) {
        self.power_off(id);
        self.stage(id, Stage::Firmware, pause + POST);
    }

    fn stage(&mut self, id: usize, stage: Stage, millis: u64) {
        if stage == Stage::Firmware {
            self.computers[id].on_since = self.clock.elapsed();
        }
        self.computers[id].state = State::Starting(stage);
        self.alarm(self.speaker(id), millis, Alarm::Next);
    }

    pub fn computer_alarm(&mut self, id: usize, alarm: Alarm) {
        if let State::Host(_) = self.computers[id].state {
            return self.host_alarm(id, alarm);
        }
        match (&mut self.computers[id].state, alarm) {
            (State::Starting(stage), Alarm::Next) => {
                let stage = *stage;
                self.enter(id, stage);
            }
            (State::Asking(asking), Alarm::NoLease(xid)) if asking.xid == xid => self.no_lease(id),
            // GRUB and iPXE say that it failed, and start over.
            (State::Fetching { ask }, Alarm::NoAnswer(unanswered)) if *ask == unanswered => {
                self.restart(id, 10_000);
            }
            (State::Initrd(initrd), Alarm::NoAnswer(unanswered)) if initrd.ask == unanswered => {
                if let Doing::FetchingKickstart { token } = &initrd.doing {
                    let token = token.clone();
                    self.install_failed(id, token, "fetching the kickstart file", "no answer");
                } else {
                    let pause = self.chance.random_range(500..10_000);
                    self.alarm(self.speaker(id), pause, Alarm::Speak);
                }
            }
            (State::Initrd(_), Alarm::Speak) => self.speak(id),
            (State::Initrd(initrd), Alarm::Installed) => match initrd.doing.clone() {
                Doing::Installing { token } => self.installed(id, token),
                Doing::Erasing { job } => self.end_erasing(id, job),
                Doing::Checking { number } => {
                    let doing = Doing::TellingChecked { number };
                    let initrd = self.initrd(id);
                    self.computers[id].state = State::Initrd(Initrd { doing, ..initrd });
                    self.speak(id);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn enter(&mut self, id: usize, stage: Stage) {
        match stage {
            Stage::Firmware => self.ask_lease(id, stage, self.computers[id].client()),
            Stage::Ipxe => self.ask_lease(id, stage, Client::Ipxe),
            Stage::Initrd | Stage::System => self.ask_lease(id, stage, Client::System),
            Stage::Script(loader) => {
                let mac = self.computers[id].mac;
                let ask = self.ask(self.speaker(id), Question::Script { mac, loader }, ANSWER);
                self.computers[id].state = State::Fetching { ask };
            }
            Stage::Disk => match self.computers[id].content {
                Content::System { .. } => self.stage(id, Stage::System, SYSTEM),
                Content::Data { .. } => {
                    self.say(format!("{} runs its own system", self.computers[id].name));
                    self.computers[id].state = State::Foreign;
                }
                Content::Blank | Content::Begun => self.restart(id, NOTHING_TO_BOOT),
            },
        }
    }

    fn ask_lease(&mut self, id: usize, stage: Stage, client: Client) {
        let xid = self.chance.random();
        self.computers[id].state = State::Asking(Asking { stage, client, xid, tries: 0, offer: None });
        self.send_lease(id);
    }

    fn send_lease(&mut self, id: usize) {
        let computer = &self.computers[id];
        let State::Asking(asking) = &computer.state else { return };
        let mut packet = dhcp::packet(asking.client, computer.mac, computer.uuid, asking.xid, asking.offer);
        if let Some(relay) = computer.relay {
            dhcp::relay(&mut packet, relay);
        }
        let (xid, patience) = (asking.xid, asking.client.patience(asking.tries).unwrap_or(1));
        let speaker = self.speaker(id);
        self.send(speaker, u64::from(xid), Question::Dhcp(packet));
        self.alarm(speaker, patience * 1000, Alarm::NoLease(xid));
    }

    fn no_lease(&mut self, id: usize) {
        let xid = self.chance.random();
        let State::Asking(asking) = &mut self.computers[id].state else { return };
        asking.tries += 1;
        asking.xid = xid;
        // An offer that nobody confirms is as good as none.
        asking.offer = None;
        if asking.client.patience(asking.tries).is_some() {
            self.send_lease(id);
        } else {
            self.stage(id, Stage::Disk, LOADER);
        }
    }

    pub fn computer_answer(&mut self, id: usize, ask: u64, answer: Answer) {
        if let State::Host(_) = self.computers[id].state {
            return self.member_answer(self.speaker(id), ask, answer);
        }
        match (&mut self.computers[id].state, answer) {
            (State::Asking(asking), Answer::Dhcp(packet)) => {
                let said = dhcp::read(&packet, asking.xid);
                self.dhcp_said(id, said);
            }
            (State::Fetching { ask: asked }, Answer::Script(text)) if *asked == ask => self.booted(id, &text),
            (State::Initrd(initrd), answer) if initrd.ask == ask => self.initrd_told(id, answer),
            _ => {}
        }
    }

    fn dhcp_said(&mut self, id: usize, said: Option<Said>) {
        let xid = self.chance.random();
        let State::Asking(asking) = &mut self.computers[id].state else { return };
        match said {
            Some(Said::Offer(offer)) if asking.offer.is_none() => {
                asking.offer = Some(offer);
                self.send_lease(id);
            }
            Some(Said::Nak) => {
                asking.offer = None;
                asking.xid = xid;
                self.send_lease(id);
            }
            Some(Said::Ack { address, file })
                if asking.offer.is_some_and(|offer| offer.address == address) =>
            {
                let stage = asking.stage;
                // Systems look whether somebody else answers to it (RFC 5227); firmware does not.
                if matches!(stage, Stage::Initrd | Stage::System) && self.taken.contains(&address) {
                    return self.decline(id, address);
                }
                self.computers[id].address = Some(address);
                self.check_addresses(self.speaker(id), address);
                self.leased(id, stage, file.as_deref());
            }
            Some(Said::Offer(_) | Said::Ack { .. }) | None => {}
        }
    }

    fn decline(&mut self, id: usize, address: Ipv4Addr) {
        let computer = &self.computers[id];
        let packet = dhcp::decline(computer.mac, address, computer.relay);
        self.say(format!("{} declines {address}", self.computers[id].name));
        self.send(self.speaker(id), 0, Question::Dhcp(packet));
        let State::Asking(asking) = &mut self.computers[id].state else { return };
        asking.offer = None;
        // It asks again when its alarm rings; RFC 2131, 3.1, wants ten seconds.
        let xid = asking.xid;
        self.alarm(self.speaker(id), 10_000, Alarm::NoLease(xid));
    }

    fn leased(&mut self, id: usize, stage: Stage, file: Option<&str>) {
        match (stage, file) {
            (Stage::Firmware, Some("undionly.kpxe")) => self.stage(id, Stage::Ipxe, LOADER),
            (Stage::Firmware, Some(file)) if file.ends_with("shimx64.efi") => {
                self.stage(id, Stage::Script(Loader::Grub), LOADER);
            }
            (Stage::Ipxe, Some(url)) if url.ends_with("script.ipxe") => {
                self.stage(id, Stage::Script(Loader::Ipxe), 100);
            }
            (Stage::Firmware | Stage::Ipxe, _) => self.stage(id, Stage::Disk, LOADER),
            (Stage::Initrd, _) => {
                let key = format!("{:064x}", self.chance.random::<u128>());
                self.computers[id].state = State::Initrd(Initrd { key, doing: Doing::Reporting, ask: 0 });
                self.speak(id);
            }
            (Stage::System, _) => self.start_host(id),
            (Stage::Script(_) | Stage::Disk, _) => {}
        }
    }

    /// Follows a boot script, as far as it says which kernel with which command line.
    fn booted(&mut self, id: usize, text: &str) {
        let line = text.lines().find_map(|line| line.split_once("boot=elisandra "));
        match line.map(|(_, line)| cmdline::parse(line.split([';', '|']).next().unwrap_or(line))) {
            Some(Ok(line)) if matches!(line.mode, Mode::Discover(_)) => self.stage(id, Stage::Initrd, INITRD),
            Some(other) => self.wrong(format!("a boot script leads to {other:?}")),
            None => self.stage(id, Stage::Disk, LOADER),
        }
    }

    /// Says what is to be said now: the report, or how the installation went.
    fn speak(&mut self, id: usize) {
        let computer = &self.computers[id];
        let State::Initrd(initrd) = &computer.state else { return };
        let key = initrd.key.clone();
        let question = match initrd.doing.clone() {
            Doing::Reporting => Question::Report { key, hardware: Box::new(computer.hardware()) },
            Doing::FetchingKickstart { token } => Question::Kickstart { key, token },
            Doing::PhoningHome { token } => Question::Installed { key, token },
            Doing::TellingFailure { token, step, error } => Question::Failed { key, token, step, error },
            Doing::TellingErased { job, outcome } => {
                let EraseDisk { number, attempt, .. } = *job;
                Question::Erased { key, erased: wire::Erased { number, attempt, outcome } }
            }
            Doing::TellingChecked { number } => Question::Checked { key, checked: computer.checked(number) },
            Doing::Installing { .. } | Doing::Erasing { .. } | Doing::Checking { .. } => return,
        };
        let asked = self.ask(self.speaker(id), question, ANSWER);
        if let State::Initrd(initrd) = &mut self.computers[id].state {
            initrd.ask = asked;
        }
    }

    fn initrd_told(&mut self, id: usize, answer: Answer) {
        let State::Initrd(initrd) = &mut self.computers[id].state else { return };
        // Late answers to this question are those of an earlier try.
        initrd.ask = 0;
        match (initrd.doing.clone(), answer) {
            (Doing::Reporting, Answer::Instruction(reply)) => match reply.instruction {
                Instruction::Wait { .. } => self.alarm(self.speaker(id), PAUSE, Alarm::Speak),
                Instruction::Install { token } => {
                    initrd.doing = Doing::FetchingKickstart { token };
                    self.speak(id);
                }
                Instruction::Erase(job) => self.begin_erasing(id, job),
                Instruction::Check { number } => {
                    initrd.doing = Doing::Checking { number };
                    // It takes as long as an installation.
                    let takes = self.computers[id].install;
                    self.alarm(self.speaker(id), takes, Alarm::Installed);
                }
                Instruction::Reboot => self.restart(id, RESTART),
            },
            (Doing::Reporting, _) => self.alarm(self.speaker(id), PAUSE, Alarm::Speak),
            (Doing::FetchingKickstart { token }, Answer::Done) => self.begin(id, token),
            (Doing::FetchingKickstart { token }, Answer::Refused(reason)) => {
                self.install_failed(id, token, "fetching the kickstart file", &reason);
            }
            (Doing::PhoningHome { .. }, Answer::Done) => {
                // What was said of the disk before was of what is not on it any more.
                self.computers[id].may_be_wiped = false;
                self.restart(id, RESTART);
            }
            (Doing::PhoningHome { token }, Answer::Refused(reason)) => {
                self.install_failed(id, token, "phoning home", &reason);
            }
            (
                Doing::TellingFailure { .. } | Doing::TellingErased { .. } | Doing::TellingChecked { .. },
                _,
            ) => {
                initrd.doing = Doing::Reporting;
                self.alarm(self.speaker(id), PAUSE, Alarm::Speak);
            }
            (
                Doing::FetchingKickstart { .. }
                | Doing::PhoningHome { .. }
                | Doing::Installing { .. }
                | Doing::Erasing { .. }
                | Doing::Checking { .. },
                _,
            ) => {}
        }
    }

    /// The disk is wiped and divided: from here on there is no way back.
    fn begin(&mut self, id: usize, token: String) {
        self.check_wiping(id);
        let initrd = self.initrd(id);
        let computer = &mut self.computers[id];
        computer.content = Content::Begun;
        computer.hypervisor = Fake::default();
        computer.images.clear();
        computer.guests.clear();
        let install = computer.install;
        computer.state = State::Initrd(Initrd { doing: Doing::Installing { token }, ..initrd });
        self.alarm(self.speaker(id), install, Alarm::Installed);
    }

    /// It takes as long as an installation.
    fn begin_erasing(&mut self, id: usize, job: Box<EraseDisk>) {
        self.check_wiping(id);
        let initrd = self.initrd(id);
        if let Err(reason) = job.disk.among(&self.computers[id].hardware().disks) {
            return self.wrong(format!("another disk is to be erased: {reason}"));
        }
        let computer = &mut self.computers[id];
        computer.content = Content::Begun;
        computer.hypervisor = Fake::default();
        computer.images.clear();
        computer.guests.clear();
        let install = computer.install;
        computer.state = State::Initrd(Initrd { doing: Doing::Erasing { job }, ..initrd });
        self.alarm(self.speaker(id), install, Alarm::Installed);
    }

    fn end_erasing(&mut self, id: usize, job: Box<EraseDisk>) {
        let initrd = self.initrd(id);
        let computer = &mut self.computers[id];
        let outcome = match computer.install_fails.clone() {
            Some(error) => EraseOutcome::Failed { step: "writing zeroes over every block".to_owned(), error },
            None => {
                computer.content = Content::Blank;
                EraseOutcome::Done(wire::Proof {
                    means: vec![wire::Means::Overwrite],
                    seconds: computer.install / 1000,
                    places: 66,
                    bytes_read: 66 << 20,
                    zero: true,
                    version: "simulated".to_owned(),
                })
            }
        };
        computer.state = State::Initrd(Initrd { doing: Doing::TellingErased { job, outcome }, ..initrd });
        self.speak(id);
    }

    fn installed(&mut self, id: usize, token: String) {
        if let Some(error) = self.computers[id].install_fails.clone() {
            return self.install_failed(id, token, "downloading the system", &error);
        }
        let initrd = self.initrd(id);
        let computer = &mut self.computers[id];
        computer.content = Content::System { key: initrd.key.clone(), certificate: None };
        computer.state = State::Initrd(Initrd { doing: Doing::PhoningHome { token }, ..initrd });
        self.speak(id);
    }

    fn install_failed(&mut self, id: usize, token: String, step: &str, error: &str) {
        let doing = Doing::TellingFailure { token, step: step.to_owned(), error: error.to_owned() };
        let initrd = self.initrd(id);
        self.computers[id].state = State::Initrd(Initrd { doing, ..initrd });
        self.speak(id);
    }

    /// The initrd that runs on this computer, taken out.
    fn initrd(&mut self, id: usize) -> Initrd {
        match std::mem::replace(&mut self.computers[id].state, State::Off) {
            State::Initrd(initrd) => initrd,
            _ => Initrd { key: String::new(), doing: Doing::Reporting, ask: 0 },
        }
    }

    pub fn alarm(&mut self, speaker: Speaker, millis: u64, alarm: Alarm) {
        self.clock.after(millis, Happening::Alarm { speaker, alarm });
    }
}
