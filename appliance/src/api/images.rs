//! `/api/v1/images`: what VMs and machines are made from. Guest images and our own system come with the appliance,
//! media were imported; all else is known from what was made of it.

use std::collections::BTreeMap;

use axum::extract::State;
use fleet::Fleet;
use fleet::machine::Phase;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paging::{Page, Part};
use crate::{App, files, web};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// Its name, and the beginning of its SHA-256.
    pub id: String,
    pub name: String,
    pub kind: Kind,
    /// What it is, in words.
    pub title: String,
    pub version: Option<String>,
    pub bytes: u64,
    pub sha256: String,
    /// What is made from now on is made from it. Others are kept by what was made from them.
    pub current: bool,
    /// VMs whose volumes were made from it.
    pub vms: u64,
    /// Machines that were installed from it, or are to be; of our own system, from this or an earlier version.
    pub machines: u64,
    /// Profiles that name it.
    pub profiles: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Volumes of VMs are made from it.
    Guest,
    /// Hosts are installed from it.
    System,
    /// The installer of another system.
    Medium,
}

impl Kind {
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Guest => "guest image",
            Kind::System => "system",
            Kind::Medium => "medium",
        }
    }
}

pub async fn list(State(app): State<App>, page: Page) -> Result<Part<Image>, web::Error> {
    page.of_all(all(&app, &app.core.fleet()), |image| image.id.clone())
}

/// `guest.img-0123456789ab`
pub fn id_of(name: &str, sha256: &str) -> String {
    let begin: String = sha256.chars().take(12).collect();
    format!("{name}-{begin}")
}

pub fn all(app: &App, fleet: &Fleet) -> Vec<Image> {
    let mut images = of_fleet(fleet);
    // Without files there is nothing that new VMs and hosts could be made from; making one says so.
    let Ok(manifest) = files::manifest(&app.files) else { return images };
    let mut own: Vec<Image> = Vec::new();
    if let Ok(image) = manifest.guest_image() {
        own.push(guest(&image, 0));
    }
    if let Ok(system) = manifest.file(SYSTEM) {
        own.push(Image {
            id: id_of(SYSTEM, &system.sha256),
            name: SYSTEM.to_owned(),
            kind: Kind::System,
            title: "Elisandra, which hosts are installed from".to_owned(),
            version: None,
            bytes: system.bytes,
            sha256: system.sha256.clone(),
            current: true,
            vms: 0,
            machines: fleet.machines.values().filter(|machine| runs_our_system(machine)).count() as u64,
            profiles: Vec::new(),
        });
    }
    for mut new in own {
        new.version = Some(manifest.version.clone());
        new.current = true;
        match images.iter_mut().find(|known| known.id == new.id) {
            Some(known) => *known = Image { vms: known.vms, ..new },
            None => images.push(new),
        }
    }
    images
}

const SYSTEM: &str = "live.squashfs";

fn runs_our_system(machine: &fleet::machine::Machine) -> bool {
    machine.system.is_none()
        && matches!(machine.phase, Phase::Installing { .. } | Phase::Installed | Phase::Ready)
}

/// Those that something was made from, and media.
pub fn of_fleet(fleet: &Fleet) -> Vec<Image> {
    let mut images: Vec<Image> = fleet.index.image_uses().map(|(image, vms)| guest(image, vms)).collect();
    let mut machines: BTreeMap<&str, u64> = BTreeMap::new();
    let systems = fleet.machines.values().filter_map(|machine| machine.system.as_ref());
    for medium in systems.filter_map(|system| system.medium.as_deref()) {
        *machines.entry(medium).or_default() += 1;
    }
    images.extend(fleet.media.values().map(|medium| {
        let named = fleet.profiles.values().filter(|it| it.medium.as_deref() == Some(&medium.name));
        Image {
            id: id_of(&medium.name, &medium.sha256),
            name: medium.name.clone(),
            kind: Kind::Medium,
            title: format!("{}, {}", medium.title, medium.arch),
            version: Some(medium.version.clone()).filter(|version| !version.is_empty()),
            bytes: medium.bytes,
            sha256: medium.sha256.clone(),
            current: true,
            vms: 0,
            machines: machines.get(medium.name.as_str()).copied().unwrap_or_default(),
            profiles: named.map(|profile| profile.name.clone()).collect(),
        }
    }));
    images
}

fn guest(image: &fleet::vm::Image, vms: u64) -> Image {
    Image {
        id: id_of(&image.name, &image.sha256),
        name: image.name.clone(),
        kind: Kind::Guest,
        title: "Debian 13, which VMs are made from".to_owned(),
        version: None,
        bytes: image.bytes,
        sha256: image.sha256.clone(),
        current: false,
        vms,
        machines: 0,
        profiles: Vec::new(),
    }
}
