//! Mounting, and the root file system made of a read-only image with memory over it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::places::RUN;
use crate::tool::{self, SHORT, ToolError};

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("making the folder {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("mounting {what} at {}", place.display())]
    Mount {
        what: String,
        place: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("unmounting {}", place.display())]
    Unmount {
        place: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Mounts the file system on `device`; makes the folder.
pub fn device(device: &Path, kind: &str, place: &Path, flags: MsFlags) -> Result<(), MountError> {
    raw(Some(device), kind, place, flags | MsFlags::MS_NODEV | MsFlags::MS_NOSUID, None)
}

/// Memory as a file system; `size` as tmpfs takes it: `50%`, `400M`.
pub fn memory(place: &Path, size: &str) -> Result<(), MountError> {
    raw(None, "tmpfs", place, MsFlags::MS_NOSUID, Some(&format!("mode=755,size={size}")))
}

/// A squashfs file, read-only, through a loop device.
pub fn squashfs(file: &Path, place: &Path) -> Result<(), MountError> {
    folder(place)?;
    // The kernel loads file systems by itself, but loop devices only once there is one. Built in is no error here;
    // that it is missing is said by the mount.
    let _ = tool::run("loading a module", SHORT, Command::new("modprobe").args(["-q", "loop"]));
    let mut command = Command::new("mount");
    command.args(["-t", "squashfs", "-o", "loop,ro"]).arg(file).arg(place);
    tool::run("mounting the system image", SHORT, &mut command)?;
    Ok(())
}

/// A kernel file system such as efivarfs. There already is fine.
pub fn kernel(kind: &str, place: &Path) -> Result<(), MountError> {
    match mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>) {
        Ok(()) | Err(nix::Error::EBUSY) => Ok(()),
        Err(source) => Err(MountError::Mount { what: kind.to_owned(), place: place.to_owned(), source }),
    }
}

pub fn unmount(place: &Path) -> Result<(), MountError> {
    umount2(place, MntFlags::empty())
        .map_err(|source| MountError::Unmount { place: place.to_owned(), source })
}

/// Puts the system of `image` at `root`: read-only below, memory above. Everything it stands on is below /run,
/// which goes along into the running system.
pub fn root(image: &Path, root: &Path) -> Result<(), MountError> {
    let run = Path::new(RUN);
    let (lower, memory_place) = (run.join("lower"), run.join("memory"));
    squashfs(image, &lower)?;
    memory(&memory_place, "50%")?;
    let (upper, work) = (memory_place.join("upper"), memory_place.join("work"));
    folder(&upper)?;
    folder(&work)?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    raw(None, "overlay", root, MsFlags::empty(), Some(&options))
}

fn raw(
    device: Option<&Path>,
    kind: &str,
    place: &Path,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), MountError> {
    folder(place)?;
    let source = device.unwrap_or(Path::new(kind));
    mount(Some(source), place, Some(kind), flags, options).map_err(|error| MountError::Mount {
        what: source.display().to_string(),
        place: place.to_owned(),
        source: error,
    })
}

fn folder(path: &Path) -> Result<(), MountError> {
    fs::create_dir_all(path).map_err(|source| MountError::Folder { folder: path.to_owned(), source })
}
