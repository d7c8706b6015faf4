//! Media: installers of other systems that were imported, unpacked and checked. Their files are kept by the appliance
//! in a folder of their name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Fleet, Refusal, is_label, profile};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Medium {
    /// Also its folder.
    pub name: String,
    pub family: Family,
    /// As it calls itself.
    pub title: String,
    /// `13.2`; empty if it does not say.
    pub version: String,
    /// `amd64`, `arm64`
    pub arch: String,
    /// Of the file that was imported.
    pub bytes: u64,
    /// Of the file that was imported.
    pub sha256: String,
    /// The installer's kernel, in the folder; none if it does not start over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The whole image, in the folder, of an installer that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Debian,
    Ubuntu,
    /// Fedora, Red Hat, Rocky, Alma.
    RedHat,
}

impl Family {
    pub fn word(self) -> &'static str {
        match self {
            Family::Debian => "debian",
            Family::Ubuntu => "ubuntu",
            Family::RedHat => "red_hat",
        }
    }

    pub(crate) fn example(self) -> &'static str {
        match self {
            Family::Debian => "Debian's netboot.tar.gz",
            Family::Ubuntu => "the ISO of Ubuntu Server",
            Family::RedHat => "the DVD of Fedora, Red Hat, Rocky or Alma",
        }
    }
}

impl Medium {
    /// For comparing: 9 is older than 12.1.
    pub(crate) fn version_numbers(&self) -> Vec<u64> {
        let words = self.version.split(|c: char| !c.is_ascii_digit());
        words.filter_map(|word| word.parse().ok()).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Added {
        medium: Medium,
    },
    Removed {
        name: String,
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Added { medium } => subject(&medium.name),
            Event::Removed { name, .. } => subject(name),
        }
    }

    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Added { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { medium } => write!(f, "Medium {} was imported: {}", medium.name, medium.title),
            Event::Removed { name, .. } => write!(f, "Medium {name} was removed"),
        }
    }
}

/// What the timeline of a medium is found by.
pub fn subject(name: &str) -> String {
    format!("medium:{name}")
}

pub(crate) fn add(fleet: &Fleet, medium: &Medium) -> Result<Vec<crate::Event>, Refusal> {
    let name = &medium.name;
    if !is_label(name) {
        return Err(Refusal::Invalid(format!(
            "{name:?} is not usable as a name: a-z, 0-9 and - inside, at most 63"
        )));
    }
    match fleet.media.get(name) {
        Some(known) if **known == *medium => Ok(Vec::new()),
        Some(known) => Err(Refusal::Conflict(format!(
            "there is a medium {name} already, {}; remove it first, or import with another name",
            known.title
        ))),
        None => Ok(vec![crate::Event::Medium(Event::Added { medium: medium.clone() })]),
    }
}

pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    if !fleet.media.contains_key(name) {
        return Err(Refusal::Missing { what: "medium", name: name.to_owned() });
    }
    let users = profile::needed_by(fleet, |system| system.medium.as_deref() == Some(name));
    if !users.is_empty() && !force {
        return Err(Refusal::Conflict(format!(
            "{} is being installed from {name}; cancel that first, or remove the medium by force",
            users.join(", ")
        )));
    }
    let mut leftovers: Vec<String> =
        users.iter().map(|user| format!("the installation of {user} cannot go on")).collect();
    let named = fleet.profiles.values().filter(|profile| profile.medium.as_deref() == Some(name));
    leftovers.extend(named.map(|profile| format!("profile {} has no medium now", profile.name)));
    Ok(vec![crate::Event::Medium(Event::Removed { name: name.to_owned(), leftovers })])
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Added { medium } => {
            fleet.media.insert(medium.name.clone(), Arc::new(medium.clone()));
        }
        Event::Removed { name, .. } => {
            fleet.media.remove(name);
        }
    }
}
