//! A simulated guest: it asks for its address, enrolls with what its first data say, and installs what it should run.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use fleet::wire::{Observed, ObservedSoftware, SoftwareState, VmSpec};
use fleet::{Mac, NodeId, VmId};
use node::guest::plan::{Record, Step, plan_software, written};
use rand::Rng as _;

use super::World;
use super::dhcp::{self, Client, Offer, Said};
use super::member::{HEARTBEAT, Member};
use super::speech::{Alarm, Answer, Question, Speaker};

const BOOT: u64 = 6_000;
const STEP: u64 = 3_000;

pub struct Guest {
    pub vm: VmId,
    pub mac: Mac,
    pub running: bool,
    pub life: u32,
    pub address: Option<Ipv4Addr>,
    pub member: Member,
    /// On its disk.
    pub certificate: Option<NodeId>,
    enrollment: Option<String>,
    records: BTreeMap<String, Record>,
    states: BTreeMap<String, (String, SoftwareState)>,
    asking: Option<(u32, u32, Option<Offer>)>,
    busy: bool,
    next_settle: u64,
    done: u64,
}

impl Guest {
    pub fn new(spec: &VmSpec) -> Guest {
        // What the guest agent reads from the volume labelled CIDATA.
        let data = spec.seed.user_data.strip_prefix("#cloud-config").unwrap_or_default();
        let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        let enrollment = data["elisandra"]["enrollment"].as_str().map(str::to_owned);
        Guest {
            vm: spec.id,
            mac: spec.mac,
            running: false,
            life: 0,
            address: None,
            member: Member::default(),
            certificate: None,
            enrollment,
            records: BTreeMap::new(),
            states: BTreeMap::new(),
            asking: None,
            busy: false,
            next_settle: 0,
            done: 0,
        }
    }

    pub fn stop(&mut self) {
        self.running = false;
        self.life += 1;
        self.address = None;
        self.asking = None;
        self.busy = false;
        self.member = Member::new(std::mem::take(&mut self.member.key), None, None);
        self.states.clear();
    }

    pub fn observed(&self, nothing: Observed) -> Observed {
        let software = self.states.iter().map(|(name, (version, state))| ObservedSoftware {
            name: name.clone(),
            version: version.clone(),
            state: state.clone(),
        });
        Observed { revision: self.done, software: software.collect(), ..nothing }
    }
}

impl World {
    pub fn start_guest(&mut self, id: usize, vm: VmId) {
        let key = format!("{:064x}", self.chance.random::<u128>());
        let Some(guest) = self.computers[id].guests.get_mut(&vm) else { return };
        if guest.running {
            return;
        }
        guest.running = true;
        guest.life += 1;
        let key = if guest.member.key.is_empty() { key } else { guest.member.key.clone() };
        let enrollment = guest.enrollment.clone();
        guest.member = Member::new(key, enrollment, guest.certificate);
        let speaker = Speaker { computer: id, guest: Some(vm), life: guest.life };
        self.alarm(speaker, BOOT, Alarm::Next);
    }

    pub fn stop_guest(&mut self, id: usize, vm: VmId) {
        self.computers[id].hypervisor.stop(vm);
        if let Some(guest) = self.computers[id].guests.get_mut(&vm) {
            guest.stop();
        }
    }

    pub fn guest_alarm(&mut self, speaker: Speaker, vm: VmId, alarm: Alarm) {
        let xid = self.chance.random();
        let Some(guest) = self.computers[speaker.computer].guests.get_mut(&vm) else { return };
        match alarm {
            Alarm::Next => {
                guest.asking = Some((xid, 0, None));
                self.guest_asks(speaker, vm);
            }
            Alarm::NoLease(old) => {
                if let Some((now, tries, offer)) = &mut guest.asking
                    && *now == old
                {
                    (*now, *tries, *offer) = (xid, *tries + 1, None);
                    self.guest_asks(speaker, vm);
                }
            }
            Alarm::Settle => self.settle_guest(speaker, vm),
            Alarm::StepDone(_) => self.guest_step(speaker, vm),
            other => self.member_alarm(speaker, other),
        }
    }

    fn guest_asks(&mut self, speaker: Speaker, vm: VmId) {
        let Some(guest) = self.computers[speaker.computer].guests.get(&vm) else { return };
        let Some((xid, tries, offer)) = guest.asking else { return };
        let mut packet = dhcp::packet(Client::System, guest.mac, uuid::Uuid::nil(), xid, offer);
        if let Some(relay) = self.computers[speaker.computer].relay {
            dhcp::relay(&mut packet, relay);
        }
        self.send(speaker, u64::from(xid), Question::Dhcp(packet));
        let patience = Client::System.patience(tries).unwrap_or(30);
        self.alarm(speaker, patience * 1000, Alarm::NoLease(xid));
    }

    pub fn guest_answer(&mut self, speaker: Speaker, vm: VmId, ask: u64, answer: Answer) {
        let again = self.chance.random();
        let Answer::Dhcp(packet) = answer else { return self.member_answer(speaker, ask, answer) };
        let Some(guest) = self.computers[speaker.computer].guests.get_mut(&vm) else { return };
        let Some((xid, _, offer)) = &mut guest.asking else { return };
        match dhcp::read(&packet, *xid) {
            Some(Said::Offer(offered)) if offer.is_none() => {
                *offer = Some(offered);
                self.guest_asks(speaker, vm);
            }
            Some(Said::Nak) => {
                (*xid, *offer) = (again, None);
                self.guest_asks(speaker, vm);
            }
            Some(Said::Ack { address, .. }) if offer.is_some_and(|offer| offer.address == address) => {
                guest.asking = None;
                guest.address = Some(address);
                self.check_addresses(speaker, address);
                self.member_starts(speaker);
            }
            Some(Said::Offer(_) | Said::Ack { .. }) | None => {}
        }
    }

    fn settle_guest(&mut self, speaker: Speaker, vm: VmId) {
        let now = self.clock.elapsed();
        let Some(guest) = self.computers[speaker.computer].guests.get_mut(&vm) else { return };
        if guest.next_settle <= now {
            guest.next_settle = now + HEARTBEAT;
            self.alarm(speaker, HEARTBEAT, Alarm::Settle);
            self.tell(speaker);
        }
        let Some(guest) = self.computers[speaker.computer].guests.get_mut(&vm) else { return };
        if !guest.busy {
            guest.busy = true;
            self.alarm(speaker, STEP, Alarm::StepDone(0));
        }
    }

    /// Does the first step there is, and is settled when there is none.
    fn guest_step(&mut self, speaker: Speaker, vm: VmId) {
        let Some(guest) = self.computers[speaker.computer].guests.get_mut(&vm) else { return };
        guest.busy = false;
        let Some(desired) = &guest.member.desired else { return };
        let step = plan_software(&desired.software, &guest.records).into_iter().next();
        match step {
            Some(Step::Remove(record)) => {
                guest.states.remove(&record.name);
                guest.records.remove(&record.name);
            }
            Some(Step::Install(spec)) => {
                let installing = SoftwareState::Installing { step: "installing its packages".to_owned() };
                guest.states.insert(spec.name.clone(), (spec.version.clone(), installing));
                let record = Record {
                    name: spec.name.clone(),
                    version: spec.version,
                    bundle_sha256: spec.bundle_sha256,
                    packages: spec.debs,
                    unit: spec.unit,
                    files: spec.files.iter().map(|file| file.path.clone()).collect(),
                    installed: true,
                    started_with: None,
                };
                guest.records.insert(spec.name, record);
            }
            Some(Step::Start(spec)) => {
                if let Some(record) = guest.records.get_mut(&spec.name) {
                    record.started_with = Some(written(&spec.files));
                }
            }
            None => {
                let healthy: BTreeMap<_, _> = desired
                    .software
                    .iter()
                    .map(|spec| (spec.name.clone(), (spec.version.clone(), SoftwareState::Healthy)))
                    .collect();
                let news = guest.states != healthy || guest.done != desired.revision;
                guest.states = healthy;
                guest.done = desired.revision;
                if news {
                    self.tell(speaker);
                }
                return;
            }
        }
        guest.busy = true;
        self.tell(speaker);
        self.alarm(speaker, STEP, Alarm::StepDone(0));
    }
}
