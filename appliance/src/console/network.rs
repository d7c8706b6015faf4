//! How each NIC is to be served, as it is set at the screen: `STATE/nics.toml`, which survives a start of the image.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use crate::config::{Config, NicSettings, Setting};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub mac: String,
    pub cable: bool,
    /// As the settings are.
    pub setting: Setting,
    /// As somebody has chosen at the screen.
    pub wanted: Setting,
    /// Said in the settings file, which comes before what is set here.
    pub fixed: bool,
}

impl Nic {
    /// The next setting in turn.
    pub fn turn(&mut self) {
        if self.fixed {
            return;
        }
        self.wanted = match self.wanted {
            Setting::Auto => Setting::Full,
            Setting::Full => Setting::Proxy,
            Setting::Proxy => Setting::Off,
            Setting::Off => Setting::Auto,
        };
    }
}

pub fn about(setting: Setting) -> &'static str {
    match setting {
        Setting::Auto => "by itself: serves where no other DHCP server answers",
        Setting::Full => "gives addresses and boots machines",
        Setting::Proxy => "boots machines; another server gives the addresses",
        Setting::Off => "never served",
    }
}

/// The NICs that there are, `settings` being the settings file alone.
pub fn nics(sys: &Path, config: &Config, settings: &BTreeMap<String, NicSettings>) -> Vec<Nic> {
    let entries = std::fs::read_dir(sys).into_iter().flatten().flatten();
    let read = |path: &Path, file: &str| {
        std::fs::read_to_string(path.join(file)).unwrap_or_default().trim().to_owned()
    };
    // Only hardware has a device behind it.
    let physical = entries.filter(|entry| entry.path().join("device").exists());
    let mut nics: Vec<Nic> = physical
        .map(|entry| {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let setting = config.nic.get(&name).map(|nic| nic.mode).unwrap_or_default();
            Nic {
                mac: read(&path, "address"),
                cable: read(&path, "carrier") == "1",
                setting,
                wanted: setting,
                fixed: settings.contains_key(&name),
                name,
            }
        })
        .collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics
}

/// What would be different, a sentence for each NIC; why it cannot be, if it cannot.
pub fn changes(nics: &[Nic]) -> Result<Vec<String>, String> {
    let serving: Vec<&str> = nics
        .iter()
        .filter(|nic| matches!(nic.wanted, Setting::Full | Setting::Proxy))
        .map(|nic| nic.name.as_str())
        .collect();
    if serving.len() > 1 {
        return Err(format!("one NIC is served, and these are set to be: {}", serving.join(", ")));
    }
    let changed = nics.iter().filter(|nic| nic.wanted != nic.setting);
    Ok(changed.map(|nic| format!("{}: {} -> {}", nic.name, nic.setting.word(), nic.wanted.word())).collect())
}

pub fn save(config: &Config, nics: &[Nic]) -> anyhow::Result<()> {
    let set = nics.iter().filter(|nic| !nic.fixed && nic.wanted != Setting::Auto);
    let set: BTreeMap<&str, NicSettings> =
        set.map(|nic| (nic.name.as_str(), NicSettings { mode: nic.wanted })).collect();
    let path = config.nics_file();
    let text = toml::to_string(&set).context("writing the settings of the NICs")?;
    crate::ca::write(&path, &text, 0o644).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_here_is_read_back_and_the_settings_file_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["eth0", "eth1", "lo"] {
            let nic = dir.path().join("net").join(name);
            std::fs::create_dir_all(&nic).unwrap();
            std::fs::write(nic.join("address"), "52:54:00:00:00:01\n").unwrap();
            std::fs::write(nic.join("carrier"), if name == "eth0" { "1\n" } else { "0\n" }).unwrap();
            if name != "lo" {
                std::fs::create_dir(nic.join("device")).unwrap();
            }
        }
        let file = dir.path().join("elisandra.toml");
        let state = dir.path().display();
        std::fs::write(&file, format!("state = \"{state}\"\n[nic.eth1]\nmode = \"off\"\n")).unwrap();
        let (config, own) = Config::read_both(Some(&file)).unwrap();
        let sys = dir.path().join("net");
        let mut found = nics(&sys, &config, &own);
        assert_eq!(found.len(), 2);
        assert!(found[0].cable && !found[0].fixed && found[1].fixed);
        assert_eq!(changes(&found).unwrap(), Vec::<String>::new());
        found[1].turn();
        assert_eq!(found[1].wanted, Setting::Off, "the settings file says it");
        found[0].turn();
        assert_eq!(changes(&found).unwrap(), ["eth0: auto -> full"]);
        save(&config, &found).unwrap();
        let (config, own) = Config::read_both(Some(&file)).unwrap();
        assert_eq!(nics(&sys, &config, &own)[0].setting, Setting::Full);

        found[1].wanted = Setting::Proxy;
        assert_eq!(changes(&found).unwrap_err(), "one NIC is served, and these are set to be: eth0, eth1");
        std::fs::write(config.nics_file(), "eth0 = 7").unwrap();
        let error = Config::read_both(Some(&file)).unwrap_err();
        assert!(error.to_string().contains("nics.toml is not valid"), "{error:#}");
    }
}
