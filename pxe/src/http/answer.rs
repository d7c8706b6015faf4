//! What is answered to a request: which script, which file, which refusal.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use serde::Deserialize;

use super::{
    hand_over::HandOver,
    head::{Head, Method},
    response::{Content, Part, Response},
    select::{Selection, Version, select},
};
use crate::{
    Boot, Directory, MacAddr, Note, Start, Step,
    folder::{self, NoFile},
    kickstart::Sha256,
    script::{self, Host, ScriptFacts},
    step::{Loader, Protocol, Sent},
};

/// What the HTTP server gives away.
pub struct Files {
    /// The appliance, as machines reach it.
    pub address: Ipv4Addr,
    /// Our own kernel, initrd and images.
    pub artifacts: PathBuf,
    pub loaders: PathBuf,
    /// The files of other systems, served below `/boot/files/os/`.
    pub systems: PathBuf,
    pub ca_pem: String,
    pub ca_sha256: Sha256,
    pub directory: Arc<dyn Directory>,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    Script(Loader, &'a str),
    /// Artifacts, then loaders.
    File(&'a str),
    /// Another system's.
    System(&'a str),
    Ca,
    /// Where GRUB looks first when firmware loaded it over HTTP.
    GrubSearch(&'a str),
    Answers(&'a str),
    /// Whoever comes here with a browser is meant for the page.
    Elsewhere,
}

pub fn route(path: &str) -> Route<'_> {
    if let Some(name) = path.strip_prefix("/grub/") {
        return Route::GrubSearch(name);
    }
    let Some(below) = path.strip_prefix("/boot/") else { return Route::Elsewhere };
    if below == "ca.pem" {
        return Route::Ca;
    }
    if let Some(name) = below.strip_prefix("files/") {
        // shim asks for its next loader with two slashes.
        let name = name.trim_start_matches('/');
        return name.strip_prefix("os/").map_or(Route::File(name), Route::System);
    }
    if let Some(path) = below.strip_prefix("answers/") {
        return Route::Answers(path);
    }
    match below.split_once('/') {
        Some((mac, "script.ipxe")) => Route::Script(Loader::Ipxe, mac),
        Some((mac, "grub.cfg")) => Route::Script(Loader::Grub, mac),
        _ => Route::Elsewhere,
    }
}

impl Files {
    pub(super) async fn answer(
        &self,
        from: IpAddr,
        to: IpAddr,
        head: &Head,
        hand_over: &HandOver,
    ) -> Response {
        let route = route(&head.path);
        let allowed: &[Method] = match route {
            // An answer may be given once only, and a HEAD must not use it up.
            Route::Answers(_) => &[Method::Get, Method::Post],
            Route::Elsewhere => return self.to_https(head),
            _ => &[Method::Get, Method::Head],
        };
        if !allowed.contains(&head.method) {
            let names = if allowed.contains(&Method::Post) { "GET, POST" } else { "GET, HEAD" };
            return Response::text(405, "this cannot be done here\n").with("Allow", names);
        }
        match route {
            Route::Script(loader, mac) => {
                self.script(loader, from, to, head.method, mac.parse().ok(), hand_over).await
            }
            Route::File(name) => {
                let (artifacts, loaders) = (self.artifacts.clone(), self.loaders.clone());
                self.file(from, head, name, move |name| match folder::open(&artifacts, name) {
                    // Firmware that boots over HTTP takes shim from here, and shim takes GRUB.
                    Err(NoFile::Missing) => folder::open(&loaders, folder::loader(name)),
                    found => found,
                })
                .await
            }
            Route::System(name) => {
                let systems = self.systems.clone();
                self.file(from, head, name, move |name| folder::open(&systems, name)).await
            }
            Route::Ca => Response {
                status: 200,
                fields: vec![("Content-Type", "application/x-pem-file".to_owned())],
                content: Content::Text(self.ca_pem.clone()),
            },
            // Modules and lists are built into the signed GRUB; it does without the files.
            Route::GrubSearch(name) if name.ends_with("grub.cfg") => {
                uncached(script::grub_start(self.host(to)))
            }
            Route::GrubSearch(_) | Route::Elsewhere => Response::missing(),
            Route::Answers(path) => match self.directory.answers(path, from).await {
                Ok(text) => uncached(text),
                Err(refused) => {
                    // The reason is for the timeline; who asks may be anybody. So is the path, which has a token.
                    self.note(
                        from,
                        None,
                        Step::Refused { what: format!("answers for an installer: {refused}") },
                    );
                    Response::text(403, "there are no answers for you here, or not now\n")
                }
            },
        }
    }

    async fn script(
        &self,
        loader: Loader,
        from: IpAddr,
        to: IpAddr,
        method: Method,
        mac: Option<MacAddr>,
        hand_over: &HandOver,
    ) -> Response {
        let Some(mac) = mac else {
            self.note(from, None, Step::Refused { what: format!("{loader} script: whose is not known") });
            return Response::missing();
        };
        let boot = self.directory.boot(mac);
        let image = if matches!(boot, Boot::Live | Boot::Rescue) { self.image().await } else { None };
        // iPXE asks for an IPv4 address first, and without one it is slower than GRUB.
        let by_ipxe =
            loader == Loader::Grub && to.is_ipv4() && fetches_kernel(&boot) && hand_over.may_begin(mac);
        let facts = ScriptFacts {
            address: self.address,
            host: self.host(to),
            ca: self.ca_sha256.clone(),
            by_ipxe,
            image,
        };
        let script = match loader {
            Loader::Ipxe => script::ipxe(&facts, mac, &boot),
            Loader::Grub => script::grub(&facts, mac, &boot),
        };
        // GRUB over EDK2's HTTP asks for the length first.
        let fetched = method == Method::Get;
        match loader {
            Loader::Ipxe => hand_over.ends(mac),
            Loader::Grub if by_ipxe && fetched => hand_over.begins(mac),
            Loader::Grub => {}
        }
        match script {
            Ok(script) => {
                if fetched {
                    self.note(from, Some(mac), Step::Script { loader, boots: boot.to_string() });
                }
                uncached(script)
            }
            Err(error) => {
                self.note(from, Some(mac), Step::Refused { what: format!("{loader} script: {error}") });
                // An error would end in the firmware's next device, or at a prompt.
                uncached(match loader {
                    Loader::Ipxe => script::ipxe_trouble(&facts, mac, &error),
                    Loader::Grub => script::grub_trouble(&error),
                })
            }
        }
    }

    /// The appliance for a machine that came to its address `to`: over IPv6 that one. The IPv4 address that machines
    /// know it by may be another than the one that a packet came to.
    fn host(&self, to: IpAddr) -> Host {
        match to {
            IpAddr::V4(_) => self.address.into(),
            IpAddr::V6(_) => Host(to),
        }
    }

    /// The checksum of live.squashfs. Read each time: the artifacts may be replaced while we run.
    async fn image(&self) -> Option<Sha256> {
        #[derive(Deserialize)]
        struct Manifest {
            files: BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            sha256: String,
        }
        let path = self.artifacts.join("manifest.json");
        let manifest = match tokio::fs::read(&path).await {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::warn!("Reading {}: {error}", path.display());
                return None;
            }
        };
        let manifest = serde_json::from_slice::<Manifest>(&manifest)
            .inspect_err(|error| tracing::warn!("Reading {}: {error}", path.display()))
            .ok()?;
        manifest.files.get("live.squashfs")?.sha256.parse().ok()
    }

    async fn file(
        &self,
        from: IpAddr,
        head: &Head,
        name: &str,
        open: impl FnOnce(&str) -> Result<(std::fs::File, std::fs::Metadata), NoFile> + Send + 'static,
    ) -> Response {
        let name = name.to_owned();
        let opened = tokio::task::spawn_blocking(move || (open(&name), name)).await;
        let (opened, name) =
            opened.unwrap_or_else(|error| (Err(NoFile::Io(io::Error::other(error))), String::new()));
        let (file, metadata) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let sent = if matches!(error, NoFile::Missing) {
                    Sent::Missing
                } else {
                    Sent::Refused { reason: error.sentence() }
                };
                self.note(
                    from,
                    None,
                    Step::File { protocol: Protocol::Http, name: format!("{name:?}"), sent },
                );
                return match error {
                    NoFile::Missing | NoFile::Outside => Response::missing(),
                    NoFile::Io(_) => Response::text(500, "it cannot be read\n"),
                };
            }
        };
        let version = Version::of(&metadata);
        let length = version.length;
        let (status, start, end) = match select(head.method, &head.conditions, &version) {
            Selection::Whole => (200, 0, length),
            Selection::Part(start, end) => (206, start, end),
            Selection::NotModified => {
                return Response { status: 304, fields: version_fields(&version), content: Content::Nothing };
            }
            Selection::Failed => return Response::text(412, "the file is another one than was meant\n"),
            Selection::Unsatisfiable => {
                return Response::text(416, format!("the file has {length} bytes\n"))
                    .with("Content-Range", format!("bytes */{length}"));
            }
        };
        let mut fields = version_fields(&version);
        fields.push(("Accept-Ranges", "bytes".to_owned()));
        fields.push(("Content-Type", "application/octet-stream".to_owned()));
        if status == 206 {
            fields.push(("Content-Range", format!("bytes {start}-{}/{length}", end - 1)));
        }
        Response {
            status,
            fields,
            content: Content::File(Box::new(Part { file, name, version, start, end })),
        }
    }

    fn to_https(&self, head: &Head) -> Response {
        let asked = head.host.as_deref().unwrap_or_default();
        let name = asked.split(':').next().unwrap_or_default();
        let good =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        let host = if good { name.to_owned() } else { self.address.to_string() };
        // No byte of a target is a control character or a space, by RFC 9112; whatever else it is stays a path.
        let path: String = head.target.chars().filter(char::is_ascii_graphic).collect();
        Response::text(308, "this is found over https\n").with("Location", format!("https://{host}{path}"))
    }

    pub(super) fn note(&self, from: IpAddr, mac: Option<MacAddr>, step: Step) {
        self.directory.note(Note { mac, address: Some(from), step });
    }
}

/// Not so the memory test and the disk, which GRUB starts as quickly.
fn fetches_kernel(boot: &Boot) -> bool {
    match boot {
        Boot::Discover | Boot::Live | Boot::Rescue => true,
        Boot::System(system) => matches!(system.start, Start::Linux { .. }),
        Boot::Disk | Boot::MemoryTest => false,
    }
}

/// A boot script is true now and not later.
fn uncached(text: String) -> Response {
    Response::text(200, text).with("Cache-Control", "no-store")
}

fn version_fields(version: &Version) -> Vec<(&'static str, String)> {
    vec![("ETag", version.etag.clone()), ("Last-Modified", httpdate::fmt_http_date(version.modified))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (path, wanted) in [
            ("/boot/02-00-00-00-00-01/script.ipxe", Route::Script(Loader::Ipxe, "02-00-00-00-00-01")),
            ("/boot/02:00:00:00:00:01/grub.cfg", Route::Script(Loader::Grub, "02:00:00:00:00:01")),
            ("/boot/files/vmlinuz", Route::File("vmlinuz")),
            ("/boot/files//grubx64.efi", Route::File("grubx64.efi")),
            ("/boot/files/os/debian/vmlinuz", Route::System("debian/vmlinuz")),
            ("/boot/files//os/../x", Route::System("../x")),
            ("/boot/files/", Route::File("")),
            ("/boot/files/os", Route::File("os")),
            ("/boot/answers/t0k3n/preseed.cfg", Route::Answers("t0k3n/preseed.cfg")),
            ("/boot/ca.pem", Route::Ca),
            ("/grub/x86_64-efi/grub.cfg", Route::GrubSearch("x86_64-efi/grub.cfg")),
            ("/boot", Route::Elsewhere),
            ("/boot/a/b/grub.cfg", Route::Elsewhere),
            ("//boot/ca.pem", Route::Elsewhere),
            ("/", Route::Elsewhere),
        ] {
            assert_eq!(route(path), wanted, "{path}");
        }
    }
}
