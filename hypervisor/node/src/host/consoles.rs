//! The serial consoles of virtual machines are files on the state volume. A guest can write to its console for ever, so
//! each file is kept short.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use node::places;

const LONGEST: u64 = 4 << 20;
/// What is kept of a console that became too long, beside it as `NAME.log.old`.
const KEPT: u64 = 1 << 20;

/// Shortens the logs in `folder` that have become too long.
pub fn trim(folder: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && entry.metadata().is_ok_and(|facts| facts.len() > LONGEST) {
            shorten(&path).with_context(|| format!("shortening {}", path.display()))?;
        }
    }
    Ok(())
}

fn shorten(log: &Path) -> anyhow::Result<()> {
    let mut end = Vec::new();
    let mut file = File::open(log)?;
    file.seek(SeekFrom::End(-(KEPT as i64)))?;
    file.take(KEPT).read_to_end(&mut end)?;
    places::write(&log.with_extension("log.old"), end, 0o600)?;
    // QEMU has the file open for appending: its next line is the first of the empty file.
    OpenOptions::new().write(true).open(log)?.set_len(0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_console_that_talks_without_end_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web-v1.log");
        let mut qemu = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        qemu.write_all(&vec![b'.'; 5 << 20]).unwrap();
        qemu.write_all(b"the end").unwrap();
        fs::write(dir.path().join("short-v2.log"), "short").unwrap();

        trim(dir.path()).unwrap();
        qemu.write_all(b"after").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "after");
        let old = fs::read_to_string(dir.path().join("web-v1.log.old")).unwrap();
        assert_eq!(old.len(), 1 << 20);
        assert!(old.ends_with(".the end"));
        assert_eq!(fs::read_to_string(dir.path().join("short-v2.log")).unwrap(), "short");
        trim(&dir.path().join("none")).unwrap();
    }
}
