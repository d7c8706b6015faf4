//! `eli show FILE`: what is in a bundle, in plain words. Nothing of any site is known here, and nothing asked.

use std::path::Path;

use anyhow::Context as _;
use fleet::package::Bundle;

use super::Output;
use crate::packages;
use crate::web::show;

pub fn show(file: &Path, output: Output) -> anyhow::Result<()> {
    let bundle = packages::read(file).with_context(|| file.display().to_string())?;
    if output.one(&bundle, &bundle.manifest.name)? {
        return Ok(());
    }
    print!("{}", words(&bundle));
    Ok(())
}

fn words(bundle: &Bundle) -> String {
    let manifest = &bundle.manifest;
    let requires = &manifest.requires;
    let nodes =
        if manifest.nodes.min == 1 { "1 node".to_owned() } else { format!("{} nodes", manifest.nodes.min) };
    let mut lines = vec![
        format!("{} {} - {}", manifest.name, manifest.version, manifest.summary),
        String::new(),
        format!(
            "Needs       {nodes} at least, each with {} memory, {} vCPU and {} GiB disk",
            show::mib(requires.memory_mib),
            requires.vcpus,
            requires.disk_gib
        ),
        "Spreading   no load balancing and no scaling rules".to_owned(),
    ];
    for (number, deb) in manifest.debs.iter().enumerate() {
        lines.push(format!("{}{}", if number == 0 { "Installs    " } else { "            " }, deb.file));
    }
    for (number, config) in manifest.configs.iter().enumerate() {
        let head = if number == 0 { "Writes      " } else { "            " };
        lines.push(format!("{head}{} (mode {}) from {}", config.path, config.mode, config.template));
    }
    lines.push(format!("Runs        {}", manifest.service.unit));
    lines.push(format!("Answers     {} on port {}", manifest.service.protocol, manifest.service.port));
    lines.push(format!("Healthy     when GET {} answers {}", manifest.health.path, manifest.health.status));
    lines.push(format!("Bundle      {}, SHA-256 {}", show::bytes(bundle.bytes), bundle.sha256));
    lines.join("\n") + "\n"
}
