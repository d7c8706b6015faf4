//! cloud-init's NoCloud data as a volume: a small vfat file system labelled CIDATA with three files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use fleet::wire::Seed;
use node::tool::{self, SHORT};

/// Makes the file system in a file of its own below `folder` and returns its path.
pub fn make(seed: &Seed, folder: &Path) -> anyhow::Result<PathBuf> {
    let image = folder.join("seed");
    let mut mkfs = Command::new("mkfs.vfat");
    // In KiB; three files of text need no more.
    mkfs.args(["-n", "CIDATA", "-C"]).arg(&image).arg("1024");
    tool::run("making the volume with the machine's first data", SHORT, &mut mkfs)?;
    for (name, content) in [
        ("meta-data", &seed.meta_data),
        ("user-data", &seed.user_data),
        ("network-config", &seed.network_config),
    ] {
        let file = folder.join(name);
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        let mut mcopy = Command::new("mcopy");
        mcopy.arg("-i").arg(&image).arg(&file).arg(format!("::{name}"));
        tool::run("filling the volume with the machine's first data", SHORT, &mut mcopy)?;
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_init_finds_its_files_by_label_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let seed = Seed {
            meta_data: "{\"instance-id\":\"v1\"}".to_owned(),
            user_data: "#cloud-config\n{}\n".to_owned(),
            network_config: "{\"version\":2}".to_owned(),
        };
        let image = make(&seed, dir.path()).unwrap();
        assert_eq!(node::labels::read(&image).unwrap().as_deref(), Some("CIDATA"));
        for (name, content) in [
            ("meta-data", seed.meta_data),
            ("user-data", seed.user_data),
            ("network-config", seed.network_config),
        ] {
            let mut read = Command::new("mtype");
            read.arg("-i").arg(&image).arg(format!("::{name}"));
            assert_eq!(tool::run("reading", SHORT, &mut read).unwrap(), content);
        }
    }
}
