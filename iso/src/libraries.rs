//! What the pages show consoles with: xterm.js and noVNC, as npm brought them by the lock file of `appliance/assets`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

use crate::cache::Cache;
use crate::source;

/// Files and folders of the packages that browsers fetch, and whose they are.
const TAKEN: [&str; 9] = [
    "@xterm/xterm/lib/xterm.mjs",
    "@xterm/xterm/css",
    "@xterm/xterm/LICENSE",
    "@xterm/addon-fit/lib/addon-fit.mjs",
    "@xterm/addon-fit/LICENSE",
    "@novnc/novnc/core",
    "@novnc/novnc/vendor",
    "@novnc/novnc/LICENSE.txt",
    "@novnc/novnc/AUTHORS",
];

/// Copies them into a new folder.
pub fn stage(cache: &Cache, folder: &Path) -> Result<()> {
    let from = cache.needed("libraries");
    let wanted = source("../appliance/assets/libraries/package-lock.json");
    let wanted = fs::read(&wanted).with_context(|| format!("reading {}", wanted.display()))?;
    if fs::read(from.join("package-lock.json")).ok() != Some(wanted) {
        bail!("{} has not what consoles are shown with; `tests/needs` puts it there", from.display());
    }
    let modules = from.join("node_modules");
    for taken in TAKEN {
        let there = modules.join(taken);
        for entry in WalkDir::new(&there).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                let to = folder.join(entry.path().strip_prefix(&modules)?);
                let parent = to.parent().context("a file is in a folder")?;
                fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
                fs::copy(entry.path(), &to).with_context(|| format!("copying {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_fetch_is_on_the_image() {
        let root = std::env::var_os("ELISANDRA_CACHE").map(std::path::PathBuf::from);
        let home = || std::env::home_dir().unwrap().join(".cache/elisandra");
        let cache = Cache::open(root.unwrap_or_else(home)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        stage(&cache, folder.path()).unwrap();
        for file in [
            "@xterm/xterm/lib/xterm.mjs",
            "@xterm/xterm/css/xterm.css",
            "@xterm/addon-fit/lib/addon-fit.mjs",
            "@novnc/novnc/core/rfb.js",
            "@novnc/novnc/vendor/pako/lib/zlib/inflate.js",
        ] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        let empty = Cache::open(folder.path().join("empty")).unwrap();
        let error = stage(&empty, folder.path()).unwrap_err().to_string();
        assert!(error.contains("`tests/needs` puts it there"), "{error}");
    }
}
