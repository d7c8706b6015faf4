//! What was erased of a machine, as a document that somebody else can check: made from the log, and from nothing else.

use fleet::machine::{About, EraseEvent};
use fleet::wire::{KnownDisk, Level, Method, Proof};
use fleet::{Event, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::person_and_place;
use crate::query::time::rfc3339;
use crate::store::Record;

/// Of the document's shape.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    pub format: u32,
    /// Of the site, as its log has it.
    pub site: Option<uuid::Uuid>,
    /// Where its order stands in the log: it is known by that.
    pub number: i64,
    pub machine: Machine,
    pub ordered_by: String,
    /// The address that the order came from.
    pub ordered_from: Option<String>,
    /// RFC 3339, as all times in it.
    pub ordered_at: String,
    pub method: Method,
    pub disks: Vec<Disk>,
    /// None while it goes on, and if the machine was removed before.
    pub ended_at: Option<String>,
    /// Every disk that was asked for is erased.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    pub id: String,
    pub name: String,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub uuid: Option<uuid::Uuid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    pub model: Option<String>,
    pub serial: Option<String>,
    pub stable_name: Option<String>,
    pub path: String,
    pub bytes: u64,
    pub begun_at: Option<String>,
    pub ended_at: Option<String>,
    /// How often it was begun: more than once where the machine lost power.
    pub attempts: u32,
    pub erased: bool,
    /// What was done, one after another.
    pub means: Vec<String>,
    /// none, clear, purge: by NIST SP 800-88 Rev. 1.
    pub level: Level,
    pub meaning: Option<String>,
    /// What was seen of it afterwards.
    pub verified: Option<String>,
    pub proof: Option<Proof>,
    /// Why it is not erased.
    pub error: Option<String>,
}

/// All of them that these events of one machine tell of, oldest first. What was cancelled before it had begun is none.
pub fn certificates(site: Option<uuid::Uuid>, records: &[Record]) -> Vec<Certificate> {
    let mut made: Vec<Certificate> = Vec::new();
    for record in records {
        let Event::Erase(event) = &record.event else { continue };
        if let EraseEvent::Asked { about, disks, method, at, .. } = event {
            made.push(asked(site, record, about, disks, *method, *at));
        }
        let Some(last) = made.last_mut() else { continue };
        match event {
            EraseEvent::Asked { .. } | EraseEvent::Stopping { .. } => {}
            EraseEvent::Cancelled { .. } => {
                made.pop();
            }
            EraseEvent::Begun { number, attempt, at, .. } => {
                if let Some(disk) = disk(last, *number) {
                    disk.begun_at.get_or_insert_with(|| rfc3339(*at));
                    disk.attempts = *attempt;
                }
            }
            EraseEvent::Done { number, proof, at, .. } => {
                if let Some(disk) = disk(last, *number) {
                    done(disk, proof, *at);
                }
            }
            EraseEvent::Failed { number, step, error, at, .. } => {
                if let Some(disk) = disk(last, *number) {
                    disk.ended_at = Some(rfc3339(*at));
                    disk.error = Some(format!("{step}: {error}"));
                }
            }
            EraseEvent::Ended { at, .. } => last.ended_at = Some(rfc3339(*at)),
        }
        if let Some(last) = made.last_mut() {
            last.complete = last.disks.iter().all(|disk| disk.erased);
        }
    }
    made
}

fn asked(
    site: Option<uuid::Uuid>,
    record: &Record,
    about: &About,
    disks: &[KnownDisk],
    method: Method,
    at: Timestamp,
) -> Certificate {
    let (person, place) = person_and_place(&record.actor);
    let About { name, manufacturer, product, serial, uuid } = about.clone();
    Certificate {
        format: FORMAT,
        site,
        number: record.position,
        machine: Machine { id: record.subject.clone(), name, manufacturer, product, serial, uuid },
        ordered_by: person.to_owned(),
        ordered_from: place.map(str::to_owned),
        ordered_at: rfc3339(at),
        method,
        disks: disks.iter().map(untouched).collect(),
        ended_at: None,
        complete: false,
    }
}

fn untouched(disk: &KnownDisk) -> Disk {
    let KnownDisk { path, by_id, serial, model, bytes } = disk.clone();
    Disk {
        model,
        serial,
        stable_name: by_id,
        path,
        bytes,
        begun_at: None,
        ended_at: None,
        attempts: 0,
        erased: false,
        means: Vec::new(),
        level: Level::None,
        meaning: None,
        verified: None,
        proof: None,
        error: None,
    }
}

fn done(disk: &mut Disk, proof: &Proof, at: Timestamp) {
    let level = Level::of(&proof.means);
    disk.ended_at = Some(rfc3339(at));
    disk.erased = true;
    disk.means = proof.means.iter().map(|means| means.words().to_owned()).collect();
    disk.level = level;
    disk.meaning = Some(level.meaning().to_owned());
    let seen = if proof.zero { "all of it was zero" } else { "nothing of it was what had been there before" };
    disk.verified = Some(format!(
        "{} places with {} bytes in all, the first and the last of the disk and others by chance all over it, were read \
         before and after, past the cache: {seen}",
        proof.places, proof.bytes_read
    ));
    disk.proof = Some(proof.clone());
    disk.error = None;
}

fn disk(certificate: &mut Certificate, number: u32) -> Option<&mut Disk> {
    certificate.disks.get_mut(usize::try_from(number).ok()?)
}
