//! The system image: vmlinuz, initrd and live.squashfs, the same for ISO, netboot and disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{Cache, Key},
    cpio,
    debian::{Finished, Mirror, Root},
    libraries, progress, source,
    tarball::{self, Overlay},
    tool,
};

/// The folder of boot loaders beside the other files.
pub const LOADERS: &str = "loaders";
pub const NODE: &str = "elisandra-node";
const PROGRAMS: [&str; 4] = ["elisandra", "eli", NODE, "elisandra-host"];

pub struct System {
    /// With the boot loaders for the medium.
    pub root: Finished,
}

pub fn build(cache: &Cache, mirror: &Mirror, binaries: &Path, out: &Path) -> Result<System> {
    for name in PROGRAMS {
        program(binaries, name)?;
    }
    let root = Root { kind: "system" }.build(cache, mirror)?;
    squashfs(cache, &root, binaries, &out.join("live.squashfs"))?;
    progress::step("system image: kernel, initrd and boot loaders", || {
        copy(&root.built("vmlinuz"), &out.join("vmlinuz"))?;
        loaders(&root, &out.join(LOADERS))?;
        initrd(&root.built("initrd"), &program(binaries, NODE)?, &out.join("initrd"))
    })?;
    Ok(System { root })
}

/// A program of ours that has been compiled before.
pub fn program(binaries: &Path, name: &str) -> Result<PathBuf> {
    let path = binaries.join(name);
    if !path.is_file() {
        bail!("{name} is not in {}; `cargo build --release` puts it there", binaries.display());
    }
    Ok(path)
}

pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// What firmware is given over the network: the same files as in the image.
fn loaders(root: &Finished, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("making the folder {}", target.display()))?;
    let from = root.built("netboot");
    for entry in fs::read_dir(&from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

fn squashfs(cache: &Cache, root: &Finished, binaries: &Path, target: &Path) -> Result<()> {
    let mut overlay = Overlay::default();
    let mut key = Key::new().text(&root.key()).command(&mksquashfs(Path::new("live.squashfs")));
    for ours in [source("overlay/common"), source("overlay/system")] {
        overlay.add_tree(&ours)?;
        key = key.tree(&ours)?;
    }
    for name in PROGRAMS {
        let path = program(binaries, name)?;
        key = key.file(&path)?;
        overlay.add_program(&format!("usr/bin/{name}"), &path);
    }
    let texts = tempfile::tempdir().context("making a temporary folder")?;
    texts_of_eli(&program(binaries, "eli")?, texts.path())?;
    overlay.add_tree(texts.path())?;
    let pages = tempfile::tempdir().context("making a temporary folder")?;
    libraries::stage(cache, &pages.path().join("usr/share/elisandra/web"))?;
    overlay.add_tree(pages.path())?;
    key = key.tree(pages.path())?;
    let folder = cache.entry("squashfs", "system image: squashfs", key, |folder| {
        let mut command = mksquashfs(&folder.join("live.squashfs"));
        tool::run_fed(&mut command, |stdin| tarball::merge(&root.tar(), &overlay, stdin))
    })?;
    copy(&folder.join("live.squashfs"), target)
}

/// The manual of `eli` and what shells complete it by, as it prints them.
fn texts_of_eli(eli: &Path, folder: &Path) -> Result<()> {
    let texts: [(&[&str], &str); 4] = [
        (&["man"], "usr/share/man/man1/eli.1"),
        (&["completion", "bash"], "usr/share/bash-completion/completions/eli"),
        (&["completion", "zsh"], "usr/share/zsh/vendor-completions/_eli"),
        (&["completion", "fish"], "usr/share/fish/vendor_completions.d/eli.fish"),
    ];
    for (arguments, path) in texts {
        let said = Command::new(eli).args(arguments).output().context("running eli")?;
        if !said.status.success() || said.stdout.is_empty() {
            bail!("eli {} says {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr));
        }
        let path = folder.join(path);
        let parent = path.parent().context("a file is in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        fs::write(&path, said.stdout).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Reads a tar. Level 6 takes a third of the time of the default, 15, for 4 % more bytes.
fn mksquashfs(target: &Path) -> Command {
    let mut command = Command::new("mksquashfs");
    command.arg("-").arg(target).args(["-tar", "-noappend", "-no-progress", "-quiet"]);
    command.args(["-comp", "zstd", "-Xcompression-level", "6", "-b", "128K"]);
    command
}

/// The initrd of Debian's tools with a second archive behind it that holds elisandra-node: a new binary costs
/// a second instead of a new initrd.
fn initrd(base: &Path, node: &Path, target: &Path) -> Result<()> {
    let mut bytes = fs::read(base).with_context(|| format!("reading {}", base.display()))?;
    let content = fs::read(node).with_context(|| format!("reading {}", node.display()))?;
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let plain = folder.path().join("node.cpio");
    let packed = folder.path().join("node.cpio.zst");
    let archive = cpio::archive(&[
        cpio::Entry::Folder("usr"),
        cpio::Entry::Folder("usr/bin"),
        cpio::Entry::Program("usr/bin/elisandra-node", &content),
    ]);
    fs::write(&plain, archive).context("writing the second archive")?;
    // A checksum would be wasted: the whole initrd is hashed. The kernel knows windows of up to 8 MiB.
    tool::run(Command::new("zstd").args(["-q", "-12", "--no-check"]).arg(&plain).arg("-o").arg(&packed))?;
    bytes.extend(fs::read(&packed).context("reading the second archive")?);
    fs::write(target, bytes).with_context(|| format!("writing {}", target.display()))
}
