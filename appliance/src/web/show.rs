//! Numbers and states in the words and colours of the page.

use fleet::medium::Medium;
use fleet::profile::Kind;
use fleet::wire::{Disk, Nic};

use crate::api::hosts::Host;
use crate::api::images::Image;
use crate::api::machines::{Machine, Question};
use crate::api::networks::Network;
use crate::api::packages::Package;
use crate::api::services::Service;
use crate::api::systems::Listed;
use crate::api::vms::Vm;
use crate::api::volumes::Volume;

/// The colour of a state; its word stands beside it always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    /// Goes on by itself.
    Busy,
    /// Waits for a person.
    Asks,
    Bad,
    Idle,
}

impl std::fmt::Display for Tone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tone::Good => "good",
            Tone::Busy => "busy",
            Tone::Asks => "asks",
            Tone::Bad => "bad",
            Tone::Idle => "idle",
        })
    }
}

/// Memory, in powers of 1024, as memory is sold.
pub fn mib(mib: u64) -> String {
    if mib < 1024 {
        return format!("{mib} MiB");
    }
    format!("{} GiB", tenths(mib * 10 / 1024))
}

/// Disk space, in powers of 1000, as disks are sold.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{} {unit}", tenths(bytes / (size / 10))),
        None => format!("{bytes} B"),
    }
}

/// Of a NIC, in the units that NICs are sold by.
pub fn link(nic: &Nic) -> String {
    match nic.speed_mbit.map(u64::from) {
        _ if !nic.carrier => "no link".to_owned(),
        Some(mbit @ 1000..) => format!("{} Gbit/s", tenths(mbit / 100)),
        Some(mbit) => format!("{mbit} Mbit/s"),
        None => "up".to_owned(),
    }
}

/// A length of time in the two largest of its units.
pub fn span_ms(ms: u64) -> String {
    let secs = ms / 1000;
    let two = |large: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {rest}"),
    };
    match secs {
        0 if ms > 0 => format!("{ms} ms"),
        0..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs / 60 % 60, "min"),
        _ => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
    }
}

/// `12,345`
pub fn count(count: impl std::fmt::Display) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of tenths, without `.0` and without what nobody reads beside three digits.
fn tenths(tenths: u64) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole @ 100.., _) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

pub fn size(disk: &Disk) -> String {
    bytes(disk.bytes)
}

impl Package {
    pub fn memory(&self) -> String {
        mib(self.requires.memory_mib)
    }

    pub fn size(&self) -> String {
        bytes(self.bytes)
    }
}

impl Machine {
    pub fn tone(&self) -> Tone {
        let asks = self.waiting.iter().any(|wait| wait.hint.is_some());
        tone_of_machine(&self.phase, asks, self.adoptable)
    }
}

/// `asks`: it waits for something that a person can do.
pub fn tone_of_machine(phase: &str, asks: bool, adoptable: bool) -> Tone {
    match phase {
        "failed" => Tone::Bad,
        "ready" | "installed" if asks => Tone::Asks,
        "ready" => Tone::Good,
        "found" if adoptable && asks => Tone::Asks,
        "sighted" if asks => Tone::Asks,
        "sighted" | "found" | "retired" => Tone::Idle,
        _ => Tone::Busy,
    }
}

impl Question {
    pub fn size(&self) -> String {
        bytes(self.bytes)
    }
}

impl Vm {
    pub fn tone(&self) -> Tone {
        match self.phase.as_str() {
            _ if self.waiting.iter().any(|wait| wait.hint.is_some()) => Tone::Asks,
            "running" if self.waiting.is_empty() => Tone::Good,
            _ => Tone::Busy,
        }
    }

    pub fn memory(&self) -> String {
        mib(self.memory_mib)
    }
}

impl Volume {
    pub fn tone(&self) -> Tone {
        if self.phase == "in use" { Tone::Good } else { Tone::Busy }
    }

    /// Of the SHA-256 of its image.
    pub fn begin(&self) -> &str {
        self.image.rsplit_once('-').map_or("", |(_, begin)| begin)
    }
}

impl Image {
    pub fn size(&self) -> String {
        bytes(self.bytes)
    }

    /// Of its SHA-256.
    pub fn begin(&self) -> &str {
        self.id.rsplit_once('-').map_or("", |(_, begin)| begin)
    }
}

impl Service {
    pub fn tone(&self) -> Tone {
        match self.phase.as_str() {
            _ if self.waiting.iter().any(|wait| wait.hint.is_some()) => Tone::Asks,
            "answering" if self.waiting.is_empty() => Tone::Good,
            _ => Tone::Busy,
        }
    }
}

impl Host {
    pub fn memory(&self) -> String {
        mib(self.memory_mib)
    }

    pub fn free_memory(&self) -> String {
        mib(self.free_memory_mib)
    }

    pub fn vm_memory(&self) -> String {
        mib(self.vm_memory_mib)
    }

    /// Kept for the host itself.
    pub fn own_memory(&self) -> String {
        mib(self.own_memory_mib())
    }

    fn own_memory_mib(&self) -> u64 {
        self.memory_mib.saturating_sub(self.free_memory_mib).saturating_sub(self.vm_memory_mib)
    }

    pub fn own_percent(&self) -> u64 {
        percent(self.own_memory_mib(), self.memory_mib)
    }

    pub fn vm_percent(&self) -> u64 {
        percent(self.vm_memory_mib, self.memory_mib)
    }

    pub fn volumes(&self) -> String {
        bytes(self.volume_bytes)
    }

    pub fn volumes_free(&self) -> Option<String> {
        self.volume_free_bytes.map(bytes)
    }

    pub fn volumes_percent(&self) -> u64 {
        let used = self.volume_free_bytes.map_or(0, |free| self.volume_bytes.saturating_sub(free));
        percent(used, self.volume_bytes)
    }
}

impl Listed {
    /// What a profile that names no medium is installed from.
    pub fn source(&self, media: &[Medium]) -> String {
        let Some(family) = self.profile.kind.family() else {
            let own = self.profile.kind == Kind::Elisandra;
            return if own { "this appliance" } else { "its own text" }.to_owned();
        };
        let fits = media.iter().filter(|medium| medium.family == family);
        let names: Vec<&str> = fits.map(|medium| medium.title.as_str()).collect();
        if names.is_empty() { "nothing yet".to_owned() } else { names.join(", ") }
    }
}

impl Network {
    pub fn is_exhausted(&self) -> bool {
        !self.foreign && self.free == 0
    }

    /// What its machines are told.
    pub fn told(&self) -> String {
        let Network { subnet, pool, reserved, quarantined, .. } = self;
        let list = |addresses: &[std::net::Ipv4Addr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let mut told = Vec::new();
        if !self.foreign {
            told.push(format!("pool {}", pool.join(", ")));
        }
        told.extend(subnet.router.map(|router| format!("router {router}")));
        told.extend((!subnet.dns.is_empty()).then(|| format!("DNS {}", list(&subnet.dns))));
        told.extend((!subnet.ntp.is_empty()).then(|| format!("NTP {}", list(&subnet.ntp))));
        told.extend(subnet.domain.as_ref().map(|domain| format!("domain {domain}")));
        told.extend(subnet.routes.iter().map(|route| format!("{} via {}", route.to, route.via)));
        told.extend(subnet.mtu.map(|mtu| format!("MTU {mtu}")));
        told.extend(subnet.lease_secs.map(|secs| format!("leases of {secs} s")));
        told.extend((*reserved > 0).then(|| format!("{reserved} reserved")));
        told.extend((*quarantined > 0).then(|| format!("{quarantined} in quarantine")));
        told.join("; ")
    }
}

pub fn percent(part: u64, whole: u64) -> u64 {
    (part * 100).checked_div(whole).unwrap_or(0).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_as_they_are_sold() {
        let mac = fleet::Mac([2, 0, 0, 0, 0, 1]);
        let nic = |speed_mbit| Nic { name: "eno1".into(), mac, driver: None, carrier: true, speed_mbit };
        let said = [Some(100), Some(1000), Some(2500), Some(25_000), None].map(|speed| link(&nic(speed)));
        assert_eq!(said, ["100 Mbit/s", "1 Gbit/s", "2.5 Gbit/s", "25 Gbit/s", "up"]);
        assert_eq!(link(&Nic { carrier: false, ..nic(Some(1000)) }), "no link");
    }

    #[test]
    fn sizes_read_as_they_are_sold() {
        assert_eq!(mib(384), "384 MiB");
        assert_eq!(mib(2048), "2 GiB");
        assert_eq!(mib(3925), "3.8 GiB");
        assert_eq!(mib(131_072), "128 GiB");
        assert_eq!(bytes(20_000_000_000), "20 GB");
        assert_eq!(bytes(1_920_383_410_176), "1.9 TB");
        assert_eq!(bytes(512_110_190_592), "512 GB");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(percent(1, 0), 0);
        assert_eq!(percent(3, 2), 100);
    }
}
