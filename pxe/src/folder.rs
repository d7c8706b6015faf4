//! A folder whose files are given away, and nothing outside of it.

use std::{fs::File, io, path::Path};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

/// Why a file is not given.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    #[error("there is no such file")]
    Missing,
    /// `..`, a symlink that leads out of the folder, a device.
    #[error("the path is not one of a file in the folder that is served")]
    Outside,
    #[error("opening it")]
    Io(#[source] io::Error),
}

impl NoFile {
    /// With its cause, for a timeline.
    pub fn sentence(&self) -> String {
        match self {
            Self::Io(source) => format!("{self}: {source}"),
            Self::Missing | Self::Outside => self.to_string(),
        }
    }
}

/// Opens a regular file below `folder`. A leading slash means the folder itself.
///
/// The kernel resolves the path beneath the folder (RESOLVE_BENEATH), so that neither `..` nor a
/// symlink, even one made meanwhile, leads out.
pub fn open(folder: &Path, name: &str) -> Result<(File, std::fs::Metadata), NoFile> {
    let name = name.trim_start_matches('/');
    if name.split('/').any(|part| part == "..") {
        return Err(NoFile::Outside);
    }
    if name.is_empty() || name.contains('\0') {
        return Err(NoFile::Missing);
    }
    let root = match File::open(folder) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoFile::Missing),
        Err(error) => return Err(NoFile::Io(error)),
    };
    let how = OpenHow::new()
        // Without O_NONBLOCK a FIFO would wait for its writer.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, name, how) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => return Err(NoFile::Missing),
        Err(Errno::EXDEV | Errno::ELOOP | Errno::ENXIO) => return Err(NoFile::Outside),
        Err(error) => return Err(NoFile::Io(error.into())),
    };
    let metadata = file.metadata().map_err(NoFile::Io)?;
    if metadata.is_dir() {
        return Err(NoFile::Missing);
    }
    if !metadata.is_file() {
        return Err(NoFile::Outside);
    }
    Ok((file, metadata))
}

/// The name under which a boot loader lies in the loaders' folder. shim asks for `grubx64.efi` next
/// to itself; over the network that is the signed GRUB with the network modules.
pub fn loader(name: &str) -> &str {
    let name = name.trim_start_matches('/');
    match name {
        "grubx64.efi" => "grubnetx64.efi",
        "grubaa64.efi" => "grubnetaa64.efi",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_files_of_the_folder_are_opened() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("a"), "a").unwrap();
        fs::create_dir(path.join("sub")).unwrap();
        fs::write(path.join("sub/b"), "b").unwrap();
        symlink("sub/b", path.join("inside")).unwrap();
        symlink(outside.path().join("secret"), path.join("absolute")).unwrap();
        symlink(
            format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap()),
            path.join("relative"),
        )
        .unwrap();
        symlink("loop", path.join("loop")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();

        for good in ["a", "/a", "sub/b", "inside", "//a"] {
            assert!(open(path, good).is_ok(), "{good}");
        }
        for missing in ["", "/", "sub", "sub/", "c", "a/b", &"x".repeat(5000)] {
            assert!(matches!(open(path, missing), Err(NoFile::Missing)), "{missing}");
        }
        for outside in [
            "../secret",
            "sub/../../secret",
            "sub/../a",
            "/../etc/passwd",
            "absolute",
            "relative",
            "loop",
            "fifo",
        ] {
            assert!(matches!(open(path, outside), Err(NoFile::Outside)), "{outside}");
        }
        // An absolute path is one below the folder.
        assert!(matches!(open(path, "/etc/passwd"), Err(NoFile::Missing)));
        assert!(matches!(open(&path.join("nowhere"), "a"), Err(NoFile::Missing)));
    }
}
