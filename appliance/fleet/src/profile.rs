//! Profiles: the systems that a machine can be installed with, ours and those of others by their own installers.
//!
//! Some are built in; they are found by [`find`] like those that a person made, and cannot be changed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::{Machine, Phase};
use crate::medium::{Family, Medium};
use crate::{Ctx, Fleet, Refusal, Timestamp, is_label};

/// The longest template that is taken.
pub const MAX_TEMPLATE: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    pub kind: Kind,
    /// What is installed from; if it is not said, the newest medium of the family that the kind takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// For the kernel of the installer, beside those that it needs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// The answers for the installer, or the boot loader's text; if it is not said, those of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// `en_US.UTF-8`
    #[serde(default = "usual_language")]
    pub language: String,
    /// `us`
    #[serde(default = "usual_keyboard")]
    pub keyboard: String,
    /// `Europe/Berlin`
    #[serde(default = "usual_time_zone")]
    pub time_zone: String,
    /// Of root's password, as crypt(5) writes it; without one, root logs in by SSH key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
}

fn usual_language() -> String {
    "en_US.UTF-8".to_owned()
}

fn usual_keyboard() -> String {
    "us".to_owned()
}

fn usual_time_zone() -> String {
    "UTC".to_owned()
}

/// How a profile is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Our own host.
    Elisandra,
    /// Debian's installer, by a preseed file.
    Debian,
    /// Ubuntu's, by an autoinstall document.
    Ubuntu,
    /// Anaconda of Fedora, Red Hat, Rocky and Alma, by a kickstart file.
    Kickstart,
    /// A script for iPXE.
    Ipxe,
    /// A configuration for GRUB.
    Grub,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Elisandra, Kind::Debian, Kind::Ubuntu, Kind::Kickstart, Kind::Ipxe, Kind::Grub];

    pub fn word(self) -> &'static str {
        match self {
            Kind::Elisandra => "elisandra",
            Kind::Debian => "debian",
            Kind::Ubuntu => "ubuntu",
            Kind::Kickstart => "kickstart",
            Kind::Ipxe => "ipxe",
            Kind::Grub => "grub",
        }
    }

    /// What its medium has to be; `None` if it needs none.
    pub fn family(self) -> Option<Family> {
        match self {
            Kind::Debian => Some(Family::Debian),
            Kind::Ubuntu => Some(Family::Ubuntu),
            Kind::Kickstart => Some(Family::RedHat),
            Kind::Elisandra | Kind::Ipxe | Kind::Grub => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Profile {
    /// With nothing that the kind does not say itself.
    pub fn plain(name: &str, kind: Kind) -> Profile {
        Profile {
            name: name.to_owned(),
            kind,
            medium: None,
            arguments: String::new(),
            template: None,
            language: usual_language(),
            keyboard: usual_keyboard(),
            time_zone: usual_time_zone(),
            password_hash: None,
        }
    }
}

/// What a machine is installed with instead of our own system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    pub profile: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// Tells this installation from every other of the machine.
    pub adopted_at: Timestamp,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.medium {
            Some(medium) => write!(f, "{} from {medium}", self.profile),
            None => f.write_str(&self.profile),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It is new, or is different from now on.
    Set { profile: Profile },
    Removed {
        name: String,
        #[serde(default)]
        leftovers: Vec<String>,
    },
}

impl Event {
    pub(crate) fn subject(&self) -> String {
        match self {
            Event::Set { profile } => subject(&profile.name),
            Event::Removed { name, .. } => subject(name),
        }
    }

    pub(crate) fn leftovers(&self) -> &[String] {
        match self {
            Event::Removed { leftovers, .. } => leftovers,
            Event::Set { .. } => &[],
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Set { profile } => write!(f, "Profile {} ({}) was set", profile.name, profile.kind),
            Event::Removed { name, .. } => write!(f, "Profile {name} was removed"),
        }
    }
}

/// What the timeline of a profile is found by.
pub fn subject(name: &str) -> String {
    format!("profile:{name}")
}

/// The profiles that are always there, the usual one first.
pub fn built_in() -> impl Iterator<Item = Profile> {
    [
        ("elisandra", Kind::Elisandra),
        ("debian", Kind::Debian),
        ("ubuntu", Kind::Ubuntu),
        ("fedora", Kind::Kickstart),
    ]
    .into_iter()
    .map(|(name, kind)| Profile::plain(name, kind))
}

pub fn find(fleet: &Fleet, name: &str) -> Option<Arc<Profile>> {
    let made = fleet.profiles.get(name).cloned();
    made.or_else(|| built_in().find(|profile| profile.name == name).map(Arc::new))
}

/// Those that are built in, then those that people made.
pub fn all(fleet: &Fleet) -> impl Iterator<Item = Arc<Profile>> {
    built_in().map(Arc::new).chain(fleet.profiles.values().cloned())
}

/// What a machine that is to have `profile` is installed with; `None` for our own system.
pub(crate) fn system(
    fleet: &Fleet,
    name: &str,
    machine: &Machine,
    ctx: Ctx,
) -> Result<Option<System>, Refusal> {
    let profile =
        find(fleet, name).ok_or_else(|| Refusal::Missing { what: "profile", name: name.to_owned() })?;
    if profile.kind == Kind::Elisandra {
        return Ok(None);
    }
    let medium = medium(fleet, &profile)?;
    if let Some(medium) = &medium {
        bootable(medium, machine)?;
    }
    let medium = medium.map(|medium| medium.name.clone());
    Ok(Some(System { profile: profile.name.clone(), medium, adopted_at: ctx.now }))
}

fn medium(fleet: &Fleet, profile: &Profile) -> Result<Option<Arc<Medium>>, Refusal> {
    let Some(family) = profile.kind.family() else { return Ok(None) };
    if let Some(name) = &profile.medium {
        let medium = fleet.media.get(name);
        let medium = medium.ok_or_else(|| Refusal::Missing { what: "medium", name: name.clone() })?;
        return Ok(Some(Arc::clone(medium)));
    }
    let newest = fleet.media.values().filter(|medium| medium.family == family && medium.kernel.is_some());
    match newest.max_by_key(|medium| (medium.version_numbers(), medium.name.clone())) {
        Some(medium) => Ok(Some(Arc::clone(medium))),
        None => Err(Refusal::Conflict(format!(
            "there is no medium to install {} from; eli os import FILE brings {}",
            profile.name,
            family.example()
        ))),
    }
}

fn bootable(medium: &Medium, machine: &Machine) -> Result<(), Refusal> {
    if medium.kernel.is_none() || medium.initrd.is_none() {
        return Err(Refusal::Conflict(format!(
            "{} ({}) starts from a disc drive only; import {} to install over the network",
            medium.name,
            medium.title,
            medium.family.example()
        )));
    }
    // Option 93 of RFC 4578: 11 and 19 are EFI on 64-bit ARM.
    let arm = matches!(machine.arch, Some(11 | 19));
    if arm != (medium.arch == "arm64") {
        return Err(Refusal::Conflict(format!(
            "{} is not a machine that {} ({}) is for",
            machine.name, medium.name, medium.arch
        )));
    }
    Ok(())
}

/// Names of the machines that are about to be installed with what `uses` says.
pub(crate) fn needed_by(fleet: &Fleet, uses: impl Fn(&System) -> bool) -> Vec<String> {
    let under_way = |machine: &&Arc<Machine>| {
        matches!(machine.phase, Phase::Adopted { .. } | Phase::Installing { .. })
            && machine.system.as_ref().is_some_and(&uses)
    };
    fleet.machines.values().filter(under_way).map(|machine| machine.name.to_string()).collect()
}

pub(crate) fn set(fleet: &Fleet, profile: &Profile) -> Result<Vec<crate::Event>, Refusal> {
    let invalid = |sentence: String| Err(Refusal::Invalid(sentence));
    let name = &profile.name;
    if !is_label(name) {
        return invalid(format!("{name:?} is not usable as a name: a-z, 0-9 and - inside, at most 63"));
    }
    if built_in().any(|known| known.name == *name) {
        return Err(Refusal::Conflict(format!("{name} is built in; make a profile with a name of its own")));
    }
    if profile.kind == Kind::Elisandra {
        return invalid("there is one profile of the kind elisandra, which is built in".to_owned());
    }
    if profile.template.is_none() && matches!(profile.kind, Kind::Ipxe | Kind::Grub) {
        return invalid(format!("a profile of the kind {} needs its text as the template", profile.kind));
    }
    if profile.template.as_ref().is_some_and(|template| template.len() > MAX_TEMPLATE) {
        return invalid(format!("the template is longer than {} KiB", MAX_TEMPLATE >> 10));
    }
    if profile.arguments.len() > 1000 || profile.arguments.chars().any(|c| !(' '..='~').contains(&c)) {
        return invalid("kernel arguments are at most 1000 ASCII characters on one line".to_owned());
    }
    for (what, word) in
        [("language", &profile.language), ("keyboard", &profile.keyboard), ("time zone", &profile.time_zone)]
    {
        if !is_word(word) {
            return invalid(format!("{word:?} is not usable as a {what}"));
        }
    }
    if let Some(hash) = &profile.password_hash
        && !is_password_hash(hash)
    {
        return invalid(
            "the password's hash must be as crypt(5) writes it; mkpasswd -m sha512crypt makes one".to_owned(),
        );
    }
    match (&profile.medium, profile.kind.family()) {
        (Some(_), None) => return invalid(format!("a profile of the kind {} has no medium", profile.kind)),
        (Some(medium), Some(family)) => match fleet.media.get(medium) {
            Some(known) if known.family != family => {
                return invalid(format!("{medium} is {} and not {}", known.title, family.example()));
            }
            // A document may come before its media.
            Some(_) | None => {}
        },
        (None, _) => {}
    }
    if fleet.profiles.get(name).is_some_and(|known| **known == *profile) {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Profile(Event::Set { profile: profile.clone() })])
}

/// What a locale, a keyboard and a time zone are written with.
fn is_word(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-/@".contains(&b))
        && !word.contains("..")
}

fn is_password_hash(hash: &str) -> bool {
    (13..=200).contains(&hash.len())
        && hash.starts_with('$')
        && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"$./,=".contains(&b))
}

pub(crate) fn remove(fleet: &Fleet, name: &str, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    if built_in().any(|known| known.name == name) {
        return Err(Refusal::Conflict(format!("{name} is built in")));
    }
    if !fleet.profiles.contains_key(name) {
        return Err(Refusal::Missing { what: "profile", name: name.to_owned() });
    }
    let users = needed_by(fleet, |system| system.profile == name);
    if !users.is_empty() && !force {
        return Err(Refusal::Conflict(format!(
            "{} is being installed with {name}; cancel that first, or remove the profile by force",
            users.join(", ")
        )));
    }
    let leftovers = users.iter().map(|user| format!("the installation of {user} cannot go on")).collect();
    Ok(vec![crate::Event::Profile(Event::Removed { name: name.to_owned(), leftovers })])
}

pub(crate) fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Set { profile } => {
            fleet.profiles.insert(profile.name.clone(), Arc::new(profile.clone()));
        }
        Event::Removed { name, .. } => {
            fleet.profiles.remove(name);
        }
    }
}
