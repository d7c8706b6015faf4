//! Debian 13 as a tar file, by mmdebstrap, in two cached steps: the packages (minutes, needs the mirror) and
//! what our `finish` script makes of them (half a minute, needs nothing from outside).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    cache::{Cache, Key},
    source, tool,
};

const SUITE: &str = "trixie";
/// mmdebstrap would take the host's trust otherwise; this file comes with debian-archive-keyring on 12 and 13.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Part of every key: raise it to build everything anew, for instance to pick up Debian's security updates.
const EDITION: &str = "1";

/// Where packages are fetched from. Never part of what is built.
#[derive(Args, Default)]
pub struct Mirror {
    /// Debian's packages
    #[arg(long = "mirror", env = "ELISANDRA_MIRROR", default_value = "http://deb.debian.org/debian")]
    main: String,
    /// Debian's security updates
    #[arg(
        long = "security-mirror",
        env = "ELISANDRA_SECURITY_MIRROR",
        default_value = "http://deb.debian.org/debian-security"
    )]
    security: String,
}

/// A root file system to be made. Its sources are the folder `iso/KIND/`: `packages`, perhaps `boot-packages`
/// (fetched for the finish script, not installed), `finish` and whatever `finish` reads.
pub struct Root {
    pub kind: &'static str,
}

/// Files in a cache folder: root.tar, and `build/` with what the finish script left there.
pub struct Finished {
    pub folder: PathBuf,
}

impl Finished {
    pub fn tar(&self) -> PathBuf {
        self.folder.join("root.tar")
    }

    pub fn built(&self, name: &str) -> PathBuf {
        self.folder.join("build").join(name)
    }

    /// The hash in the folder's name stands for everything inside.
    pub fn key(&self) -> String {
        name(&self.folder)
    }
}

impl Root {
    pub fn build(&self, cache: &Cache, mirror: &Mirror) -> Result<Finished> {
        let sources = source(self.kind);
        let packages = list(&sources.join("packages"))?;
        let boot_packages = match sources.join("boot-packages") {
            path if path.exists() => list(&path)?,
            _ => Vec::new(),
        };

        // Programs with all their options are part of the key; where packages and folders are is not.
        let recipe = install(&packages, &boot_packages, &Mirror::default(), Path::new("root.tar"));
        let key = Key::new().text(EDITION).command(&recipe);
        let title = format!("{} image: Debian 13 packages", self.kind);
        let base = cache.entry(&format!("{}-packages", self.kind), &title, key, |folder| {
            tool::run(&mut install(&packages, &boot_packages, mirror, &folder.join("root.tar")))
        })?;

        let boot = source("boot");
        let recipe = finish(Path::new("root.tar"), Path::new("sources"), Path::new("boot"), Path::new("."));
        let key = Key::new().text(&name(&base)).command(&recipe).tree(&sources)?.tree(&boot)?;
        let title = format!("{} image: boot loaders, initrd, settings", self.kind);
        let folder = cache.entry(&format!("{}-root", self.kind), &title, key, |folder| {
            tool::run(&mut finish(&base.join("root.tar"), &sources, &boot, folder))
        })?;
        Ok(Finished { folder })
    }
}

fn install(packages: &[String], boot_packages: &[String], mirror: &Mirror, tar: &Path) -> Command {
    let mut command = mmdebstrap();
    command.args([
        "--variant=apt",
        &format!("--keyring={KEYRING}"),
        &format!("--include={}", packages.join(",")),
    ]);
    command.args([
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        "--aptopt=Acquire::Retries 3",
    ]);
    for path in ["doc/*", "man/*", "info/*", "locale/*", "lintian/*", "bug/*"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}"));
    }
    // Licences travel with the programs.
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    // The initrd is made by the finish script; a first one would be thrown away.
    command.env("INITRD", "No");
    if !boot_packages.is_empty() {
        let mut download = format!("apt-get -qq download {}", boot_packages.join(" "));
        if boot_packages.iter().any(|package| package.ends_with(":arm64")) {
            download = format!(
                "dpkg --add-architecture arm64 && apt-get -qq update && {download} && dpkg --remove-architecture arm64"
            );
        }
        command.arg(format!(
            r#"--customize-hook=mkdir -p "$1/build/debs" && chroot "$1" sh -c 'cd /build/debs && {download}'"#
        ));
    }
    command.arg(SUITE).arg(tar);
    command.arg(format!("deb {} {SUITE} main", mirror.main));
    command.arg(format!("deb {} {SUITE}-updates main", mirror.main));
    command.arg(format!("deb {} {SUITE}-security main", mirror.security));
    command
}

fn finish(base: &Path, sources: &Path, boot: &Path, folder: &Path) -> Command {
    let mut command = mmdebstrap();
    command.args(["--variant=custom", "--skip=update,cleanup"]);
    // mmdebstrap's own `tar-in` fails at device nodes when it runs without root.
    let base = base.display();
    command.arg(format!(
        r#"--setup-hook=tar -C "$1" --xattrs --xattrs-include='*' --numeric-owner --exclude='./dev/*' -xpf '{base}'"#
    ));
    command.arg(r#"--customize-hook=mkdir -p "$1/build""#);
    let inputs: Vec<String> = [sources, boot].iter().map(|path| format!("'{}'", path.display())).collect();
    command.arg(format!("--customize-hook=copy-in {} /build", inputs.join(" ")));
    command.arg(format!(r#"--customize-hook=sh '{}' "$1""#, sources.join("finish").display()));
    command.arg(format!("--customize-hook=copy-out /build '{}'", folder.display()));
    command.arg(r#"--customize-hook=rm -rf "$1/build""#);
    command.arg(SUITE).arg(folder.join("root.tar")).arg("deb http://deb.debian.org/debian trixie main");
    command
}

fn mmdebstrap() -> Command {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--architectures=amd64", "--format=tar"]).env("LC_ALL", "C.UTF-8");
    command
}

/// The last part of a cache folder's path, which has the hash in it.
pub fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lines of a file that are neither empty nor comments.
fn list(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}
