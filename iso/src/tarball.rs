//! Lays our files over a root file system while both are still tar streams: nothing is unpacked, so nothing
//! needs root.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

/// Files to be laid over a root file system, by path without a leading slash. All belong to root.
#[derive(Default)]
pub struct Overlay(BTreeMap<String, Source>);

enum Source {
    Folder,
    File { from: PathBuf, mode: u32 },
    Link(PathBuf),
}

impl Overlay {
    /// Adds everything under `folder`. Git knows no modes but "executable", so neither does an overlay.
    pub fn add_tree(&mut self, folder: &Path) -> Result<()> {
        for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            let from = entry.path();
            let path = from
                .strip_prefix(folder)?
                .to_str()
                .with_context(|| format!("{} is not UTF-8", from.display()))?;
            let source = if entry.path_is_symlink() {
                Source::Link(fs::read_link(from)?)
            } else if entry.file_type().is_dir() {
                Source::Folder
            } else {
                let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
                Source::File { from: from.into(), mode: if executable { 0o755 } else { 0o644 } }
            };
            self.0.insert(path.to_owned(), source);
        }
        Ok(())
    }

    pub fn add_program(&mut self, path: &str, from: &Path) {
        self.0.insert(path.to_owned(), Source::File { from: from.into(), mode: 0o755 });
    }

    fn replaces(&self, path: &str) -> bool {
        matches!(self.0.get(path), Some(Source::File { .. } | Source::Link(_)))
    }
}

/// Writes `base` to `out` with the files of `overlay` in place of its own.
pub fn merge(base: &Path, overlay: &Overlay, mut out: &mut dyn Write) -> Result<()> {
    let file = File::open(base).with_context(|| format!("reading {}", base.display()))?;
    let seen = copy_base(file, overlay, &mut out).with_context(|| format!("copying {}", base.display()))?;

    let mut builder = Builder::new(out);
    for (path, source) in &overlay.0 {
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match source {
            // A folder of the base keeps its owner and mode.
            Source::Folder if seen.contains(path) => {}
            Source::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, format!("./{path}/"), std::io::empty())?;
            }
            Source::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, format!("./{path}"), target)?;
            }
            Source::File { from, mode } => {
                let file = File::open(from).with_context(|| format!("reading {}", from.display()))?;
                header.set_size(file.metadata()?.len());
                header.set_mode(*mode);
                builder.append_data(&mut header, format!("./{path}"), file)?;
            }
        }
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Copies headers and contents as they are, so that nothing the `tar` crate does not know (times, attributes,
/// long names in extra headers) is lost. Returns the paths of the base.
fn copy_base(file: File, overlay: &Overlay, out: &mut dyn Write) -> Result<BTreeSet<String>> {
    let mut archive = tar::Archive::new(std::io::BufReader::with_capacity(1 << 20, file));
    let mut seen = BTreeSet::new();
    // Extra headers (long name, attributes) that belong to the entry which follows them.
    let mut extra = Vec::new();
    let mut long_name = None;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let path = entry.path_bytes().into_owned();
        let size = entry.header().entry_size()?;
        let is_extra = matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader);
        if is_extra {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if kind == EntryType::GNULongName {
                long_name = Some(content.clone());
            } else if kind == EntryType::XHeader {
                long_name = pax_path(&content).or(long_name);
            }
            extra.extend_from_slice(entry.header().as_bytes());
            extra.extend_from_slice(&content);
            extra.resize(extra.len().next_multiple_of(512), 0);
            continue;
        }

        let path = normal(&long_name.take().unwrap_or(path))?;
        let extra = std::mem::take(&mut extra);
        if kind.is_hard_link() {
            let target = normal(&entry.link_name_bytes().unwrap_or_default())?;
            if overlay.replaces(&target) {
                bail!("/{path} is a hard link to /{target}, which the overlay replaces");
            }
        }
        if overlay.replaces(&path) {
            if kind.is_dir() {
                bail!("/{path} is a folder in the base and a file in the overlay");
            }
            continue;
        }
        out.write_all(&extra)?;
        out.write_all(entry.header().as_bytes())?;
        std::io::copy(&mut entry, out)?;
        let padding = size.next_multiple_of(512) - size;
        out.write_all(&[0; 512][..padding as usize])?;
        seen.insert(path);
    }
    Ok(seen)
}

/// The `path` record of a pax header: lines of "LENGTH path=VALUE\n".
fn pax_path(content: &[u8]) -> Option<Vec<u8>> {
    tar::PaxExtensions::new(content)
        .filter_map(Result::ok)
        .find(|record| record.key_bytes() == b"path")
        .map(|record| record.value_bytes().to_vec())
}

/// "./usr/bin/" as "usr/bin".
fn normal(path: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(path).context("a path in the base is not UTF-8")?;
    Ok(text.trim_end_matches('\0').trim_start_matches("./").trim_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sh(folder: &Path, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn our_files_take_the_place_of_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let long = "a-rather-long-name-".repeat(8);
        sh(
            folder.path(),
            &format!(
                "mkdir -p base/etc/ssh over/etc/ssh over/usr/new; chmod 700 base/etc/ssh
                 echo theirs > base/etc/motd; echo theirs > base/etc/ssh/{long}
                 echo ours > over/etc/motd; echo ours > over/etc/ssh/{long}; echo '#!' > over/usr/new/tool
                 chmod 755 over/usr/new/tool; ln -s ../motd over/etc/ssh/link
                 tar -C base --format=pax -cf base.tar ."
            ),
        );
        let mut overlay = Overlay::default();
        overlay.add_tree(&folder.path().join("over")).unwrap();
        let mut merged = Vec::new();
        merge(&folder.path().join("base.tar"), &overlay, &mut merged).unwrap();
        fs::write(folder.path().join("merged.tar"), merged).unwrap();

        let listing = sh(
            folder.path(),
            &format!(
                "mkdir out; tar -C out -xpf merged.tar; tar -tf merged.tar | sort | uniq -d
                 cd out; cat etc/motd etc/ssh/{long} etc/ssh/link; stat -c '%a %n' etc/ssh usr/new usr/new/tool"
            ),
        );
        assert_eq!(listing, "ours\nours\nours\n700 etc/ssh\n755 usr/new\n755 usr/new/tool\n");
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let refusal = |script: &str| {
            let folder = tempfile::tempdir().unwrap();
            sh(folder.path(), &format!("{script}; tar -C base -cf base.tar ."));
            let mut overlay = Overlay::default();
            overlay.add_tree(&folder.path().join("over")).unwrap();
            let base = folder.path().join("base.tar");
            merge(&base, &overlay, &mut Vec::new()).unwrap_err().root_cause().to_string()
        };
        assert_eq!(
            refusal("mkdir -p base/x over; touch over/x"),
            "/x is a folder in the base and a file in the overlay"
        );
        assert_eq!(
            refusal("mkdir base over; touch base/x over/x; ln base/x base/y; touch base/y"),
            "/y is a hard link to /x, which the overlay replaces"
        );
    }
}
