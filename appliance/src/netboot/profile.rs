//! One profile: a small TOML file that says what a machine boots, and which machines.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use pxe::script::CommandLine;
use pxe::{Boot, MacAddr, Start, System};
use serde::Deserialize;
use toml::{Spanned, Value};

/// A profile as it was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The file's name without `.toml`.
    pub name: String,
    boots: Boots,
    pub matches: Matches,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Boots {
    Disk,
    MemoryTest,
    /// The same for every machine.
    Same(Arc<System>),
    /// Made for each machine, as `{server}` or `{mac}` stands in it.
    Made(System, Texts),
}

/// What placeholders are put into.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Texts {
    CommandLine(String),
    Scripts { ipxe: Option<String>, grub: Option<String> },
}

/// The machines that a profile is for. One that names none is for whom it is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    pub macs: Vec<MacAddr>,
    /// Option 97 in the order of its bytes on the wire.
    pub uuids: Vec<[u8; 16]>,
    pub archs: Vec<Arch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    Bios,
    Uefi,
    Arm64,
}

impl Arch {
    const ALL: [Arch; 3] = [Arch::Bios, Arch::Uefi, Arch::Arm64];

    /// From option 93.
    pub fn of(option: u16) -> Option<Arch> {
        match option {
            0 => Some(Arch::Bios),
            7 | 9 | 16 => Some(Arch::Uefi),
            11 | 19 => Some(Arch::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Bios => "bios",
            Arch::Uefi => "uefi",
            Arch::Arm64 => "arm64",
        })
    }
}

/// What is wrong in a profile, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}, line {line}: {sentence}")]
pub struct BadProfile {
    pub file: String,
    pub line: usize,
    pub sentence: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: Option<String>,
    kernel: Option<Spanned<String>>,
    initrds: Option<Spanned<Value>>,
    command_line: Option<Spanned<String>>,
    efi: Option<Spanned<String>>,
    ipxe: Option<Spanned<String>>,
    grub: Option<Spanned<String>>,
    boot: Option<Spanned<String>>,
    #[serde(rename = "match")]
    matches: Option<WrittenMatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    mac: Option<Spanned<Value>>,
    uuid: Option<Spanned<Value>>,
    arch: Option<Spanned<Value>>,
}

/// Reads a profile. `files` is the folder that its paths are below, `server` what `{server}` stands for.
pub fn parse(name: &str, text: &str, files: &Path, server: Ipv4Addr) -> Result<Profile, BadProfile> {
    let file = format!("{name}.toml");
    let reader = Reader { file: &file, text, files };
    let written: Written = toml::from_str(text).map_err(|error| BadProfile {
        file: file.clone(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        sentence: error.message().to_owned(),
    })?;
    let title = written.title.clone().unwrap_or_else(|| name.to_owned());
    let matches = reader.matches(written.matches.as_ref())?;
    let boots = reader.boots(title, &written, server)?;
    Ok(Profile { name: name.to_owned(), boots, matches })
}

impl Profile {
    pub fn boot(&self, mac: MacAddr, server: Ipv4Addr) -> Boot {
        match &self.boots {
            Boots::Disk => Boot::Disk,
            Boots::MemoryTest => Boot::MemoryTest,
            Boots::Same(system) => Boot::System(Arc::clone(system)),
            Boots::Made(system, texts) => {
                let System { title, start } = system.clone();
                let start = made(start, texts, mac, server);
                Boot::System(Arc::new(System { title, start }))
            }
        }
    }

    /// For the list at the start.
    pub fn title(&self) -> &str {
        match &self.boots {
            Boots::Disk => "the machine's own disk",
            Boots::MemoryTest => "memory test",
            Boots::Same(system) => &system.title,
            Boots::Made(system, _) => &system.title,
        }
    }
}

fn made(start: Start, texts: &Texts, mac: MacAddr, server: Ipv4Addr) -> Start {
    match (start, texts) {
        (Start::Linux { kernel, initrds, command_line }, Texts::CommandLine(text)) => {
            // It was read with another machine's MAC address in it, so it can be read with this one's.
            let command_line = fill(text, mac, server).parse().unwrap_or(command_line);
            Start::Linux { kernel, initrds, command_line }
        }
        (Start::Text { .. }, Texts::Scripts { ipxe, grub }) => {
            let filled = |text: &Option<String>| text.as_ref().map(|text| fill(text, mac, server));
            Start::Text { ipxe: filled(ipxe), grub: filled(grub) }
        }
        (start, _) => start,
    }
}

/// `{server}` and `{mac}`, but not iPXE's own `${mac}`.
fn fill(text: &str, mac: MacAddr, server: Ipv4Addr) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let word = [("{server}", server.to_string()), ("{mac}", mac.to_string())]
            .into_iter()
            .find(|(word, _)| from.starts_with(word) && !before.ends_with('$'));
        match word {
            Some((word, value)) => {
                filled.push_str(&value);
                rest = &from[word.len()..];
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled + rest
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    files: &'a Path,
}

impl Reader<'_> {
    fn bad<T>(&self, at: &Spanned<T>, sentence: impl Into<String>) -> BadProfile {
        self.at(at.span().start, sentence)
    }

    fn at(&self, place: usize, sentence: impl Into<String>) -> BadProfile {
        BadProfile { file: self.file.to_owned(), line: line_of(self.text, place), sentence: sentence.into() }
    }

    fn boots(&self, title: String, written: &Written, server: Ipv4Addr) -> Result<Boots, BadProfile> {
        let Written { kernel, initrds, command_line, efi, ipxe, grub, boot, .. } = written;
        let ways = [
            ("kernel", kernel.as_ref()),
            ("efi", efi.as_ref()),
            ("ipxe", ipxe.as_ref().or(grub.as_ref())),
            ("boot", boot.as_ref()),
        ];
        let mut named = ways.iter().filter_map(|(word, value)| Some((word, (*value)?)));
        let Some((way, first)) = named.next() else {
            return Err(self.at(
                0,
                "nothing says what to boot; write kernel = \"…\" with initrds and command_line, or efi = \"…\", \
                 or ipxe and grub texts, or boot = \"disk\"",
            ));
        };
        if let Some((other, value)) = named.next() {
            return Err(self.bad(value, format!("a profile has either {way} or {other}; take one away")));
        }
        if *way != "kernel" {
            let stray = [
                ("initrds", initrds.as_ref().map(Spanned::span)),
                ("command_line", command_line.as_ref().map(Spanned::span)),
            ];
            if let Some((word, span)) = stray.into_iter().find_map(|(word, span)| Some((word, span?))) {
                return Err(self.at(
                    span.start,
                    format!("{word} goes with kernel, and this profile has {way}; take one away"),
                ));
            }
        }
        match *way {
            "kernel" => self.linux(title, first, initrds.as_ref(), command_line.as_ref(), server),
            "efi" => {
                let start = Start::Efi { program: self.path(first)? };
                Ok(Boots::Same(Arc::new(System { title, start })))
            }
            "ipxe" => self.texts(title, ipxe.as_ref(), grub.as_ref()),
            _ => match first.get_ref().as_str() {
                "disk" => Ok(Boots::Disk),
                "memory-test" => Ok(Boots::MemoryTest),
                other => Err(self.bad(
                    first,
                    format!("boot = {other:?} is not known; write boot = \"disk\" or boot = \"memory-test\""),
                )),
            },
        }
    }

    fn linux(
        &self,
        title: String,
        kernel: &Spanned<String>,
        initrds: Option<&Spanned<Value>>,
        command_line: Option<&Spanned<String>>,
        server: Ipv4Addr,
    ) -> Result<Boots, BadProfile> {
        let kernel = self.path(kernel)?;
        let mut paths = Vec::new();
        if let Some(initrds) = initrds {
            for path in self.strings(initrds, "initrds = [\"debian/initrd.gz\"]")? {
                paths.push(self.path(&Spanned::new(initrds.span(), path))?);
            }
        }
        let text = command_line.map_or("", |text| text.get_ref());
        if let (Some(written), Some(unknown)) = (command_line, unknown_placeholder(text)) {
            return Err(self.bad(
                written,
                format!("{unknown} is not known; {{server}} is this server's address and {{mac}} the machine's MAC address"),
            ));
        }
        let filled = fill(text, MacAddr([0x52, 0x54, 0, 0, 0, 1]), server);
        let parsed = CommandLine::from_str(&filled).map_err(|error| match command_line {
            Some(written) => self.bad(written, error.to_string()),
            None => self.at(0, error.to_string()),
        })?;
        let start = Start::Linux { kernel, initrds: paths, command_line: parsed };
        let system = System { title, start };
        Ok(if filled == text {
            Boots::Same(Arc::new(system))
        } else {
            Boots::Made(system, Texts::CommandLine(text.to_owned()))
        })
    }

    fn texts(
        &self,
        title: String,
        ipxe: Option<&Spanned<String>>,
        grub: Option<&Spanned<String>>,
    ) -> Result<Boots, BadProfile> {
        if let Some(ipxe) = ipxe
            && !ipxe.get_ref().starts_with("#!ipxe\n")
        {
            return Err(self.bad(
                ipxe,
                "iPXE takes no script that does not begin with a line #!ipxe; write it as the first",
            ));
        }
        for text in [ipxe, grub].into_iter().flatten() {
            let control = |c: &char| c.is_control() && !['\n', '\t'].contains(c);
            if let Some(control) = text.get_ref().chars().find(control) {
                return Err(
                    self.bad(text, format!("the text has the control character {control:?}; take it away"))
                );
            }
        }
        let text = |text: Option<&Spanned<String>>| text.map(|text| text.get_ref().clone());
        let texts = Texts::Scripts { ipxe: text(ipxe), grub: text(grub) };
        let start = Start::Text { ipxe: text(ipxe), grub: text(grub) };
        Ok(Boots::Made(System { title, start }, texts))
    }

    /// A path below the folder of files, of a file that is there.
    fn path(&self, written: &Spanned<String>) -> Result<String, BadProfile> {
        let path = written.get_ref().trim_start_matches("./");
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+~/".contains(&byte);
        if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.is_empty() {
            return Err(self.bad(
                written,
                format!(
                    "{path:?} does not lie below {}; put the file there and write its path from there",
                    self.files.display()
                ),
            ));
        }
        if !path.bytes().all(letter) {
            return Err(self.bad(
                written,
                format!("boot loaders do not agree on how to ask for {path:?}; rename the file to letters, digits and . _ - + ~"),
            ));
        }
        if !self.files.join(path).is_file() {
            return Err(self.bad(
                written,
                format!(
                    "there is no file {path} in {}; put it there, or write the path of one that is",
                    self.files.display()
                ),
            ));
        }
        Ok(path.to_owned())
    }

    fn matches(&self, written: Option<&WrittenMatch>) -> Result<Matches, BadProfile> {
        let Some(written) = written else { return Ok(Matches::default()) };
        let mut matches = Matches::default();
        if let Some(macs) = &written.mac {
            for text in self.strings(macs, "mac = \"52:54:00:12:34:56\"")? {
                let mac = text.parse().map_err(|_| {
                    self.bad(macs, format!("{text:?} is not a MAC address; write it as 52:54:00:12:34:56"))
                })?;
                matches.macs.push(mac);
            }
        }
        if let Some(uuids) = &written.uuid {
            for text in self.strings(uuids, "uuid = \"4c4c4544-0044-3610-8052-b4c04f4d3332\"")? {
                let uuid = uuid::Uuid::parse_str(&text).map_err(|_| {
                    let like = "4c4c4544-0044-3610-8052-b4c04f4d3332";
                    self.bad(
                        uuids,
                        format!(
                            "{text:?} is not a UUID; write it as dmidecode -s system-uuid says it: {like}"
                        ),
                    )
                })?;
                // The first three fields are little endian on the wire, as SMBIOS has them.
                matches.uuids.push(uuid.to_bytes_le());
            }
        }
        if let Some(archs) = &written.arch {
            for text in self.strings(archs, "arch = \"uefi\"")? {
                let arch = Arch::ALL.into_iter().find(|arch| arch.to_string() == text).ok_or_else(|| {
                    self.bad(
                        archs,
                        format!(
                            "arch = {text:?} is not known; write \"bios\", \"uefi\" (x86) or \"arm64\" (UEFI)"
                        ),
                    )
                })?;
                matches.archs.push(arch);
            }
        }
        Ok(matches)
    }

    /// One string or a list of them.
    fn strings(&self, written: &Spanned<Value>, like: &str) -> Result<Vec<String>, BadProfile> {
        let of = |value: &Value| value.as_str().map(str::to_owned);
        let strings = match written.get_ref() {
            Value::Array(values) => values.iter().map(of).collect(),
            value => of(value).map(|text| vec![text]),
        };
        strings.ok_or_else(|| self.bad(written, format!("a text or a list of texts is wanted; write {like}")))
    }
}

/// `{name}` with a name that stands for nothing.
fn unknown_placeholder(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let from = &rest[at..];
        let end = from.find(['}', ' ']).map_or(from.len(), |end| end + 1);
        let word = &from[..end];
        let name = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        if name.is_some_and(|name| {
            name.bytes().all(|b| b.is_ascii_lowercase()) && !["server", "mac"].contains(&name)
        }) {
            return Some(word);
        }
        rest = &from[1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn read(text: &str) -> Result<Profile, BadProfile> {
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("debian")).unwrap();
        for name in ["debian/linux", "debian/initrd.gz", "memtest.efi", "odd name"] {
            std::fs::write(files.path().join(name), "x").unwrap();
        }
        parse("debian", text, files.path(), SERVER).map_err(|bad| BadProfile {
            sentence: bad.sentence.replace(&files.path().display().to_string(), "FILES"),
            ..bad
        })
    }

    #[test]
    fn a_profile_is_read() {
        let profile = read(
            "title = \"Debian 13 installer\"\nkernel = \"debian/linux\"\ninitrds = \"debian/initrd.gz\"\n\
             command_line = \"auto=true url=http://{server}/boot/files/preseed.cfg for={mac}\"\n\
             [match]\nmac = [\"52:54:00:12:34:56\", \"52-54-00-12-34-57\"]\narch = \"uefi\"\n\
             uuid = \"00112233-4455-6677-8899-aabbccddeeff\"\n",
        )
        .unwrap();
        let Boot::System(system) = profile.boot(MAC, SERVER) else { panic!("{profile:?}") };
        let Start::Linux { kernel, initrds, command_line } = &system.start else { panic!("{system:?}") };
        assert_eq!((system.title.as_str(), kernel.as_str()), ("Debian 13 installer", "debian/linux"));
        assert_eq!(initrds[..], ["debian/initrd.gz"]);
        assert_eq!(
            command_line.words(),
            ["auto=true", "url=http://10.0.0.1/boot/files/preseed.cfg", "for=52:54:00:12:34:56"]
        );
        assert_eq!(profile.matches.macs.len(), 2);
        assert_eq!(profile.matches.uuids[0][..6], [0x33, 0x22, 0x11, 0, 0x55, 0x44]);
        assert_eq!(profile.matches.archs, [Arch::Uefi]);
        assert_eq!(read("boot = \"disk\"").unwrap().boot(MAC, SERVER), Boot::Disk);
        assert!(matches!(read("efi = \"memtest.efi\"").unwrap().boot(MAC, SERVER), Boot::System(_)));
    }

    #[test]
    fn ipxe_keeps_its_own_settings() {
        let profile = read("ipxe = \"\"\"#!ipxe\nchain http://{server}/${mac}/{mac} ||\n\"\"\"").unwrap();
        let Boot::System(system) = profile.boot(MAC, SERVER) else { panic!("{profile:?}") };
        let Start::Text { ipxe: Some(ipxe), grub: None } = &system.start else { panic!("{system:?}") };
        assert_eq!(ipxe, "#!ipxe\nchain http://10.0.0.1/${mac}/52:54:00:12:34:56 ||\n");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_to_write_instead() {
        let bad = [
            "",
            "title = \"x\"\nkernal = \"debian/linux\"\n",
            "kernel = debian/linux\n",
            "kernel = \"debian/linux\"\n\ninitrds = 7\n",
            "kernel = \"debian/nothing\"\n",
            "kernel = \"../../etc/shadow\"\n",
            "kernel = \"/etc/shadow\"\n",
            "efi = \"odd name\"\n",
            "kernel = \"debian/linux\"\nefi = \"memtest.efi\"\n",
            "efi = \"memtest.efi\"\n# words\ncommand_line = \"quiet\"\n",
            "kernel = \"debian/linux\"\ncommand_line = \"a && b\"\n",
            "kernel = \"debian/linux\"\ncommand_line = \"url={hostname}\"\n",
            "kernel = \"debian/linux\"\ncommand_line = \"a\\nb\"\n",
            "ipxe = \"boot\"\n",
            "grub = \"a\\u0000b\"\n",
            "boot = \"pizza\"\n",
            "boot = \"disk\"\n[match]\nmac = \"52:54:00\"\n",
            "boot = \"disk\"\n[match]\narch = [\"uefi\", \"sparc\"]\n",
            "boot = \"disk\"\n[match]\nuuid = \"1234\"\n",
            "boot = \"disk\"\n[match]\nserial = \"1234\"\n",
        ];
        let sentences: Vec<String> = bad.iter().map(|text| read(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(sentences.join("\n"));
    }
}
