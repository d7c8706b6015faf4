//! Other systems than ours: media as they are imported, and machines that are installed by their own installers.
//!
//! ```text
//! eli os import ──receive──▶ .incoming-… ──recognise, check, unpack──▶ systems/NAME/ ──▶ /boot/files/os/NAME/…
//! profile ──boot──▶ kernel, initrd, command line with /boot/answers/TOKEN/ ──answers──▶ preseed, autoinstall, kickstart
//! ```
//!
//! The token is for one installation of one machine, and answers are given to that machine's address alone, while it
//! installs. docs/systems.md is for operators.

pub mod answers;
pub mod iso;
mod receive;
mod recognise;
pub mod render;

use std::io;
use std::sync::Arc;

use fleet::machine::{Machine, Phase};
use fleet::profile::{Kind, Profile};
use fleet::{Fleet, profile};
use pxe::Start;

use crate::tokens::Tokens;
use render::{Facts, Medium};

pub use answers::mirror_in_trouble;
pub use receive::{Wanted, receive, remove};

/// Where machines find the cache of the Debian mirror, on the appliance's own address.
pub const MIRROR_PORT: u16 = 3142;

#[derive(Debug, thiserror::Error)]
pub enum SystemsError {
    /// The medium is not as it should be.
    #[error("{0}")]
    Unusable(String),
    #[error("the upload broke off after {bytes} bytes")]
    BrokenOff { bytes: u64 },
    #[error("the appliance's disk is too full to keep this medium")]
    DiskFull,
    #[error("the medium could not be {step}")]
    File { step: &'static str, source: io::Error },
}

impl SystemsError {
    fn file(step: &'static str) -> impl FnOnce(io::Error) -> SystemsError {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SystemsError::DiskFull,
            _ => SystemsError::File { step, source },
        }
    }
}

/// Checks what the core cannot: that the template renders, and that boot loaders take the kernel's arguments.
pub fn check(profile: &Profile) -> Result<(), String> {
    profile.arguments.parse::<pxe::script::CommandLine>().map_err(|error| error.to_string())?;
    if profile.time_zone.parse::<pxe::kickstart::TimeZone>().is_err() {
        return Err(format!("{:?} is not a time zone like Europe/Paris", profile.time_zone));
    }
    match &profile.template {
        Some(template) => render::try_out(profile.kind, template).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// What a machine that is being installed with another system starts, or why it cannot.
pub fn boot(fleet: &Fleet, tokens: &Tokens, machine: &Machine) -> Result<Arc<pxe::System>, String> {
    let Installation { profile, medium, token, address } = installation(fleet, tokens, machine)?;
    let base = format!("http://{address}/boot/answers/{token}");
    let boot_mac = machine.macs.first().ok_or("its MAC address is not known")?.to_string().replace(':', "-");
    let title = format!("the installer of {}", profile.name);
    let Some(medium) = medium else {
        let text = render::render(profile.kind, &template(&profile)?, &facts(fleet, tokens, machine)?);
        let text = Some(text.map_err(|error| error.to_string())?);
        let start = match profile.kind {
            Kind::Grub => Start::Text { ipxe: None, grub: text },
            Kind::Ipxe | Kind::Elisandra | Kind::Debian | Kind::Ubuntu | Kind::Kickstart => {
                Start::Text { ipxe: text, grub: None }
            }
        };
        return Ok(Arc::new(pxe::System { title, start }));
    };
    let files = format!("http://{address}/boot/files/os/{}", medium.name);
    let words = match profile.kind {
        // Where the network has no router or no name servers, it asks before it has its answers.
        Kind::Debian => format!(
            "auto=true priority=critical url={base}/preseed.cfg hostname={} BOOTIF=01-{boot_mac} \
             netcfg/no_default_route=true netcfg/get_nameservers=",
            machine.name
        ),
        // Without cloud-config-url cloud-init takes the image at url= for its configuration.
        Kind::Ubuntu => format!(
            "ip=dhcp url={files}/{} autoinstall cloud-config-url=/dev/null ds=nocloud-net;s={base}/ BOOTIF=01-{boot_mac}",
            medium.image.as_deref().unwrap_or_default()
        ),
        Kind::Kickstart => {
            format!(
                "inst.repo={files} inst.stage2={files} inst.ks={base}/ks.cfg ip=dhcp BOOTIF=01-{boot_mac}"
            )
        }
        Kind::Elisandra | Kind::Ipxe | Kind::Grub => String::new(),
    };
    let words = format!("{words} console=tty0 console=ttyS0,115200 {}", profile.arguments);
    let start = Start::Linux {
        kernel: path(&medium, medium.kernel.as_deref())?,
        initrds: vec![path(&medium, medium.initrd.as_deref())?],
        command_line: words.parse().map_err(|error: pxe::script::BadWord| error.to_string())?,
    };
    Ok(Arc::new(pxe::System { title: format!("{title} ({})", medium.title), start }))
}

fn path(medium: &fleet::medium::Medium, file: Option<&str>) -> Result<String, String> {
    let file = file.ok_or_else(|| format!("{} does not start over the network", medium.name))?;
    Ok(format!("os/{}/{file}", medium.name))
}

/// What is needed for all that an installer of another system is told.
struct Installation {
    profile: Arc<Profile>,
    medium: Option<Arc<fleet::medium::Medium>>,
    token: String,
    address: std::net::Ipv4Addr,
}

fn installation(fleet: &Fleet, tokens: &Tokens, machine: &Machine) -> Result<Installation, String> {
    if !matches!(machine.phase, Phase::Installing { .. }) {
        return Err(format!("{} is {}", machine.name, machine.phase.word()));
    }
    let system = machine.system.as_ref().ok_or_else(|| format!("{} gets our own system", machine.name))?;
    let gone = |what: &str, name: &str| format!("there is no {what} {name} any more");
    let profile = profile::find(fleet, &system.profile).ok_or_else(|| gone("profile", &system.profile))?;
    let medium = match &system.medium {
        Some(name) => Some(fleet.media.get(name).cloned().ok_or_else(|| gone("medium", name))?),
        None => None,
    };
    let site = fleet.site.as_ref().ok_or("the site is not founded")?;
    let token = tokens.answers(machine.id, system.adopted_at);
    Ok(Installation { profile, medium, token, address: site.address })
}

fn template(profile: &Profile) -> Result<String, String> {
    let own = || render::own_template(profile.kind).map(str::to_owned);
    profile.template.clone().or_else(own).ok_or_else(|| format!("profile {} has no template", profile.name))
}

/// Typed, so that what a machine reported cannot be more than a value.
fn facts(fleet: &Fleet, tokens: &Tokens, machine: &Machine) -> Result<Facts, String> {
    let Installation { profile, medium, token, address } = installation(fleet, tokens, machine)?;
    let wrong = |error: pxe::kickstart::Invalid| error.to_string();
    let Phase::Installing { disk, .. } = &machine.phase else {
        return Err("it is not being installed".into());
    };
    let hardware = machine.hardware.as_ref().ok_or("its hardware is not known")?;
    let disk = disk.by_id.as_deref().ok_or("its disk has no name that stays")?;
    Ok(Facts {
        name: machine.name.parse().map_err(wrong)?,
        domain: fleet.site.as_ref().map(|site| site.domain.clone()).unwrap_or_default(),
        mac: pxe::MacAddr(hardware.boot_mac.0),
        disk: disk.trim_start_matches("/dev/").parse().map_err(wrong)?,
        serial: hardware.serial.clone().unwrap_or_default(),
        product: hardware.product.clone().unwrap_or_default(),
        language: profile.language.clone(),
        keyboard: profile.keyboard.clone(),
        time_zone: profile.time_zone.parse().map_err(wrong)?,
        password_hash: profile.password_hash.clone(),
        ssh_keys: fleet
            .policy
            .ssh_keys
            .iter()
            .map(|key| key.parse())
            .collect::<Result<_, _>>()
            .map_err(wrong)?,
        medium: medium.map(|medium| Medium {
            name: medium.name.clone(),
            version: medium.version.clone(),
            fedora: medium.title.starts_with("Fedora"),
            url: format!("http://{address}/boot/files/os/{}", medium.name),
        }),
        mirror: format!("{address}:{MIRROR_PORT}"),
        answers: format!("http://{address}/boot/answers/{token}"),
        appliance: address,
    })
}
