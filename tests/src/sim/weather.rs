//! Random scenarios: machines of all kinds, a bad network, power that fails, people who change their minds; then the
//! faults stop, and everything must come to rest.

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The script of this seed, in the language of [`super::run`].
pub fn script(seed: u64) -> String {
    let mut chance = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut lines = vec![format!("seed {seed}")];
    let computers = chance.random_range(1..=4);
    let names: Vec<String> = (0..computers).map(|number| format!("m-{number}")).collect();
    if chance.random_bool(0.3) {
        lines.push("eli policy --ask".to_owned());
    }
    if chance.random_bool(0.4) {
        lines.push("second appliance".to_owned());
    }
    if chance.random_bool(0.7) {
        let (lost, duplicated) = (chance.random_range(0..25), chance.random_range(0..20));
        let late = chance.random_range(2..3000);
        lines.push(format!("network lost {lost}% duplicated {duplicated}% delay 1ms..{late}ms"));
    }
    for (number, name) in names.iter().enumerate() {
        lines.push(plug(&mut chance, &names[..number], name));
        if chance.random_bool(0.5) {
            lines.push(format!("wait {}s", chance.random_range(1..90)));
        }
    }
    let mut off = Vec::new();
    for _ in 0..chance.random_range(4..24) {
        lines.push(format!("wait {}ms", pause(&mut chance)));
        lines.push(deed(&mut chance, &names, &mut off));
    }
    lines.push("# The faults stop.".to_owned());
    lines.push("network good".to_owned());
    for name in &names {
        lines.extend(
            ["bmc {} well", "strip {} well", "unblock {}", "mend {}", "unhang {}", "power on {}"]
                .map(|line| line.replace("{}", name)),
        );
    }
    lines.push("wait 30s".to_owned());
    lines.extend(names.iter().map(|name| format!("try eli host unfence {name}")));
    // Outlets that a cancelled fence left off.
    lines.extend(names.iter().map(|name| format!("try eli machine power {name} on")));
    lines.extend(["wait 10s".to_owned(), "forgive".to_owned()]);
    // With NICs in other machines, some things wait for a person who says which machine is which.
    let swapped = lines.iter().any(|line| line.starts_with("swap nics"));
    let rest = if swapped { "quiet" } else { "settled" };
    lines.push(format!("expect {rest} within 60m"));
    lines.push("expect replay equals live".to_owned());
    lines.push("expect compaction equals live".to_owned());
    lines.push("expect document changes nothing".to_owned());
    lines.join("\n") + "\n"
}

fn plug(chance: &mut ChaCha8Rng, others: &[String], name: &str) -> String {
    let firmware = ["bios", "uefi", "uefi-http"].choose(chance).copied().unwrap_or("bios");
    let memory = [2048, 4096, 8192].choose(chance).copied().unwrap_or(4096);
    let mut line = format!("plug {name} {firmware} memory {memory}");
    line += &format!(" install {}s", chance.random_range(5..200));
    if chance.random_bool(0.2) {
        line += " data \"ext4 'photos'\"";
    }
    if let Some(other) = others.choose(chance)
        && chance.random_bool(0.2)
    {
        line += &format!(" like {other}");
    }
    line
}

/// From right after each other to minutes apart.
fn pause(chance: &mut ChaCha8Rng) -> u64 {
    let longest = [50, 2_000, 20_000, 120_000].choose(chance).copied().unwrap_or(1000);
    chance.random_range(0..longest)
}

fn deed(chance: &mut ChaCha8Rng, names: &[String], off: &mut Vec<String>) -> String {
    let name = names.choose(chance).cloned().unwrap_or_default();
    let vm = ["web", "db", "mail"].choose(chance).copied().unwrap_or("web");
    let eli = if chance.random_bool(0.3) { "eli@b" } else { "eli" };
    let request = super::scenario::REQUESTS.choose(chance).copied().unwrap_or("ensure_vm");
    match chance.random_range(0..30) {
        0 | 1 => format!("power cycle {name}"),
        2 => {
            off.push(name.clone());
            format!("power off {name}")
        }
        3 => format!("power on {}", off.pop().unwrap_or(name)),
        4 | 5 => format!("block {name}"),
        6 | 7 => format!("unblock {name}"),
        8 => "restart appliance".to_owned(),
        9 => format!("fail {name} {request} \"No space left on device\""),
        10 => format!("mend {name}"),
        11 => format!("break install {name} \"the image is broken\""),
        12..=15 => format!("try {eli} vm create {vm} --memory {}", chance.random_range(2..30) * 128),
        16 | 17 => format!("try {eli} vm delete {vm}"),
        18 if chance.random_bool(0.3) => format!("try {eli} vm cancel {vm}"),
        18 if chance.random_bool(0.3) => format!("try {eli} service cancel wiki"),
        18 if chance.random_bool(0.3) => format!("try {eli} machine cancel {name}"),
        18 if chance.random_bool(0.3) => format!("try {eli} host drain {name}"),
        18 if chance.random_bool(0.3) => format!("try {eli} host undrain {name}"),
        18 => format!("try {eli} adopt {name}"),
        19 => format!("try {eli} adopt {name} --wipe"),
        20 => format!("try {eli} install wiki"),
        21 => format!("try {eli} remove wiki"),
        22 => format!("try {eli} delete {name}"),
        23 if names.len() > 1 && chance.random_bool(0.3) => {
            let other = names.iter().find(|other| **other != name).cloned().unwrap_or_default();
            format!("swap nics {name} {other}")
        }
        23 => format!("crash {vm}"),
        24 => format!("hang {name}"),
        25 => format!("try {eli} machine bmc {name}"),
        26 => format!("try {eli} machine strip {name}"),
        27 => format!("try {eli} vm create {vm} --anew"),
        28 if chance.random_bool(0.3) => format!("bmc {name} silent"),
        28 if chance.random_bool(0.2) => format!("bmc {name} hanging"),
        28 if chance.random_bool(0.2) => format!("strip {name} silent"),
        28 if chance.random_bool(0.2) => format!("strip {name} stuck"),
        28 if chance.random_bool(0.5) => format!("try {eli} machine reimage {name}"),
        28 => format!("try {eli} machine power {name} cycle --force"),
        _ if chance.random_bool(0.5) => format!("try {eli} host fence {name}"),
        _ => format!("try {eli} host unfence {name}"),
    }
}
