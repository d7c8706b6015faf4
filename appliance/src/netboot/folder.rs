//! The folder of profiles, read again when something in it changes.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pxe::{Boot, MacAddr};

use super::profile::{self, Arch, BadProfile, Profile};

/// A profile is a page at most; what is larger is something else that was put there.
const LARGEST: u64 = 256 << 10;

/// What a machine is known by when it is asked what it boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    pub arch: Option<Arch>,
    pub uuid: Option<[u8; 16]>,
}

/// All profiles, as one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    all: BTreeMap<String, Profile>,
    by_mac: BTreeMap<MacAddr, String>,
    by_uuid: BTreeMap<[u8; 16], String>,
    by_arch: BTreeMap<Arch, String>,
    default: Option<String>,
}

impl Profiles {
    /// Refuses profiles of which two want the same machines.
    pub fn new(all: BTreeMap<String, Profile>, default: Option<&str>) -> Result<Self, String> {
        let mut profiles = Self::default();
        for profile in all.values() {
            let Profile { name, matches, .. } = profile;
            for mac in &matches.macs {
                claim(&mut profiles.by_mac, *mac, name, &format!("mac = \"{mac}\""))?;
            }
            for uuid in &matches.uuids {
                let text = uuid::Uuid::from_bytes_le(*uuid);
                claim(&mut profiles.by_uuid, *uuid, name, &format!("uuid = \"{text}\""))?;
            }
            for arch in &matches.archs {
                claim(&mut profiles.by_arch, *arch, name, &format!("arch = \"{arch}\""))?;
            }
        }
        profiles.default = match default {
            Some(name) if all.contains_key(name) => Some(name.to_owned()),
            Some(name) => {
                let names: Vec<&str> = all.keys().map(String::as_str).collect();
                return Err(format!(
                    "there is no profile {name}.toml for --default {name}; there is: {}",
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                ));
            }
            None => all.contains_key("default").then(|| "default".to_owned()),
        };
        profiles.all = all;
        Ok(profiles)
    }

    /// The profile of a machine: by its MAC address, its UUID, its architecture, or the default.
    pub fn of(&self, mac: MacAddr, known: Known) -> Option<&Profile> {
        let by_uuid = || self.by_uuid.get(&known.uuid?);
        let by_arch = || self.by_arch.get(&known.arch?);
        let name = self.by_mac.get(&mac).or_else(by_uuid).or_else(by_arch).or(self.default.as_ref())?;
        self.all.get(name)
    }

    /// What a machine boots; its own disk if no profile is for it.
    pub fn boot(&self, mac: MacAddr, known: Known, server: Ipv4Addr) -> Boot {
        self.of(mac, known).map_or(Boot::Disk, |profile| profile.boot(mac, server))
    }

    /// A line for each profile.
    pub fn lines(&self) -> Vec<String> {
        let line = |profile: &Profile| {
            let matches = &profile.matches;
            let mut of: Vec<String> = matches.macs.iter().map(ToString::to_string).collect();
            of.extend(matches.uuids.iter().map(|uuid| uuid::Uuid::from_bytes_le(*uuid).to_string()));
            of.extend(matches.archs.iter().map(|arch| format!("every {arch} machine")));
            if self.default.as_ref() == Some(&profile.name) {
                of.push("every other machine".to_owned());
            }
            let of = if of.is_empty() { "no machine".to_owned() } else { of.join(", ") };
            format!("{}: {} for {of}", profile.name, profile.title())
        };
        self.all.values().map(line).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn claim<K: Ord>(of: &mut BTreeMap<K, String>, key: K, name: &str, what: &str) -> Result<(), String> {
    match of.insert(key, name.to_owned()) {
        Some(other) if other != name => {
            Err(format!("{other}.toml and {name}.toml both have {what}; take it out of one of them"))
        }
        _ => Ok(()),
    }
}

/// The folder, with what was good in it when it was looked at last.
pub struct Folder {
    path: PathBuf,
    files: PathBuf,
    server: Ipv4Addr,
    default: Option<String>,
    seen: BTreeMap<String, Stamp>,
    good: BTreeMap<String, Profile>,
    broken: BTreeMap<String, BadProfile>,
}

/// By what it is seen that a file is another.
type Stamp = (SystemTime, u64);

/// What a look at the folder came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The profiles, if they are others than before.
    pub profiles: Option<Profiles>,
    pub bad: Vec<String>,
}

impl Folder {
    pub fn new(path: &Path, files: &Path, server: Ipv4Addr, default: Option<String>) -> Self {
        Self {
            path: path.to_owned(),
            files: files.to_owned(),
            server,
            default,
            seen: BTreeMap::new(),
            good: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// Looks for files that came, changed or went. A profile that is broken stays as it was when it was good, and is
    /// read again at every look: the file that it misses may be on its way.
    pub fn look(&mut self) -> io::Result<Look> {
        let stamps = self.stamps()?;
        if stamps == self.seen && self.broken.is_empty() {
            return Ok(Look::default());
        }
        let mut good = self.good.clone();
        good.retain(|name, _| stamps.contains_key(name));
        let mut broken = BTreeMap::new();
        for (name, stamp) in &stamps {
            if self.seen.get(name) == Some(stamp) && !self.broken.contains_key(name) {
                continue;
            }
            match self.read(name, stamp.1) {
                Ok(profile) => {
                    good.insert(name.clone(), profile);
                }
                Err(error) => {
                    broken.insert(name.clone(), error);
                }
            }
        }
        let is_new = |(name, error): &(&String, &BadProfile)| self.broken.get(*name) != Some(*error);
        let mut look = Look {
            bad: broken.iter().filter(is_new).map(|(_, error)| error.to_string()).collect(),
            profiles: None,
        };
        if good != self.good || self.seen.is_empty() {
            match Profiles::new(good.clone(), self.default.as_deref()) {
                Ok(profiles) => look.profiles = Some(profiles),
                Err(sentence) => look.bad.push(sentence),
            }
        }
        (self.seen, self.good, self.broken) = (stamps, good, broken);
        Ok(look)
    }

    fn stamps(&self) -> io::Result<BTreeMap<String, Stamp>> {
        let mut stamps = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
            if path.extension().is_none_or(|extension| extension != "toml") || name.starts_with('.') {
                continue;
            }
            // Gone since the folder was listed: so it is not there.
            let Ok(metadata) = path.metadata() else { continue };
            if metadata.is_file() {
                stamps.insert(name.to_owned(), (metadata.modified()?, metadata.len()));
            }
        }
        Ok(stamps)
    }

    fn read(&self, name: &str, length: u64) -> Result<Profile, BadProfile> {
        let bad = |sentence: String| BadProfile { file: format!("{name}.toml"), line: 1, sentence };
        if length > LARGEST {
            return Err(bad(format!("{length} bytes are no profile; put large files under another name")));
        }
        let text = std::fs::read_to_string(self.path.join(format!("{name}.toml")))
            .map_err(|error| bad(format!("it cannot be read: {error}")))?;
        profile::parse(name, &text, &self.files, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn mac(number: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number])
    }

    fn text(title: &str, matches: &str) -> String {
        format!("title = \"{title}\"\ngrub = \"boot\"\n{matches}\n")
    }

    fn title(profiles: &Profiles, number: u8, known: Known) -> String {
        profiles.boot(mac(number), known, SERVER).to_string()
    }

    #[test]
    fn the_closest_profile_wins() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("default.toml", text("for all", ""));
        write("one.toml", text("by mac", "[match]\nmac = \"02:00:00:00:00:01\""));
        write("two.toml", text("by uuid", "[match]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\""));
        write("three.toml", text("by arch", "[match]\narch = \"uefi\""));
        write("notes.txt", "not a profile".to_owned());
        let mut opened = Folder::new(folder.path(), folder.path(), SERVER, None);
        let look = opened.look().unwrap();
        assert_eq!(look.bad, Vec::<String>::new());
        let profiles = look.profiles.unwrap();
        let uuid = Some(uuid::uuid!("00112233-4455-6677-8899-aabbccddeeff").to_bytes_le());
        let arch = Some(Arch::Uefi);
        assert_eq!(title(&profiles, 1, Known { arch, uuid }), "by mac");
        assert_eq!(title(&profiles, 2, Known { arch, uuid }), "by uuid");
        assert_eq!(title(&profiles, 2, Known { arch, uuid: None }), "by arch");
        assert_eq!(title(&profiles, 2, Known::default()), "for all");
        assert_eq!(opened.look().unwrap(), Look::default(), "nothing changed");

        let default = |name: &str| {
            Folder::new(folder.path(), folder.path(), SERVER, Some(name.to_owned())).look().unwrap()
        };
        assert_eq!(title(&default("one").profiles.unwrap(), 9, Known::default()), "by mac");
        assert_eq!(
            default("none").bad,
            ["there is no profile none.toml for --default none; there is: default, one, three, two"]
        );
        assert_eq!(Profiles::default().boot(mac(1), Known::default(), SERVER), Boot::Disk);
    }

    #[test]
    fn a_broken_profile_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("default.toml", &text("first", ""));
        let mut opened = Folder::new(folder.path(), folder.path(), SERVER, None);
        assert!(opened.look().unwrap().profiles.is_some());

        write("default.toml", "title = \"broken\"\ngurb = \"boot\"\n");
        let look = opened.look().unwrap();
        assert!(look.bad[0].starts_with("default.toml, line 2: unknown field `gurb`"), "{:?}", look.bad);
        assert_eq!(look.profiles, None, "as it was");
        assert_eq!(opened.look().unwrap(), Look::default(), "said once");

        // Two that want the same machine: all stays as it was.
        write("default.toml", &text("second", ""));
        for name in ["a.toml", "b.toml"] {
            write(name, &text(name, "[match]\nmac = \"02:00:00:00:00:01\""));
        }
        let look = opened.look().unwrap();
        assert_eq!(
            (look.profiles, &look.bad[..]),
            (
                None,
                &["a.toml and b.toml both have mac = \"02:00:00:00:00:01\"; take it out of one of them"
                    .to_owned()][..]
            )
        );
        std::fs::remove_file(folder.path().join("b.toml")).unwrap();
        let profiles = opened.look().unwrap().profiles.unwrap();
        assert_eq!(title(&profiles, 1, Known::default()), "a.toml");
        std::fs::remove_file(folder.path().join("default.toml")).unwrap();
        assert_eq!(
            title(&opened.look().unwrap().profiles.unwrap(), 2, Known::default()),
            Boot::Disk.to_string()
        );
    }
}
