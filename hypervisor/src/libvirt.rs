//! The real hypervisor: libvirt with KVM.
//!
//! Volumes are files of a dir pool. A new one is written under a name that begins with a dot, grown to its size, and
//! gets its own name when it is complete: what has a name is whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet::wire::{Capacity, ConsoleKind, VmSpec, VolumeSpec};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::sys;

use crate::domain::{self, CPU_MODES, CpuMode, Host, METADATA_URI};
use crate::{Ensured, Hypervisor, HypervisorError, Vm, check_image, checked_name, fingerprint, xml};

const POOL: &str = "elisandra";

/// Where this host's files are and which libvirt is spoken to.
#[derive(Debug, Clone)]
pub struct Places {
    /// `qemu:///system`
    pub uri: String,
    /// `kvm`
    pub domain_type: String,
    pub volumes: PathBuf,
    pub consoles: PathBuf,
    /// Sockets of serial consoles. A socket's whole path has room for 107 bytes.
    pub sockets: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            domain_type: "kvm".to_owned(),
            volumes: PathBuf::from("/var/lib/elisandra/volumes"),
            consoles: PathBuf::from("/var/lib/elisandra/consoles"),
            sockets: PathBuf::from("/run/elisandra/vms"),
        }
    }
}

/// Speaks to libvirt's daemon; connects when it is first needed and again when the daemon was restarted.
pub struct Libvirt {
    places: Places,
    connection: Mutex<Option<Connect>>,
}

impl Libvirt {
    pub fn new(places: Places) -> Self {
        // libvirt prints errors to stderr by itself unless told otherwise; we return them.
        virt::error::clear_error_callback();
        Self { places, connection: Mutex::new(None) }
    }

    fn connect(&self) -> Result<Connect, HypervisorError> {
        let mut connection: MutexGuard<'_, Option<Connect>> =
            self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connection.as_ref()
            && connection.is_alive().unwrap_or(false)
        {
            return Ok(connection.clone());
        }
        let fresh = Connect::open(Some(&self.places.uri)).map_err(step("connecting to libvirt"))?;
        *connection = Some(fresh.clone());
        Ok(fresh)
    }

    fn host(&self) -> Host<'_> {
        Host {
            domain_type: &self.places.domain_type,
            volumes: &self.places.volumes,
            consoles: &self.places.consoles,
            sockets: &self.places.sockets,
        }
    }

    /// The pool, defined and started when it is not. The folder is on the state volume, the definition may not be.
    fn pool(&self, connection: &Connect) -> Result<StoragePool, HypervisorError> {
        let pool = match connection.lookup_storage_pool_by_name(POOL) {
            Ok(pool) => pool,
            Err(error) if is(&error, ErrorNumber::NoStoragePool) => {
                folder(&self.places.volumes)?;
                let xml = domain::pool(POOL, &self.places.volumes);
                connection.define_storage_pool_xml(&xml, 0).map_err(step("defining the pool for volumes"))?
            }
            Err(error) => return Err(step("looking for the pool for volumes")(error)),
        };
        if !pool.is_active().map_err(step("asking for the pool for volumes"))? {
            folder(&self.places.volumes)?;
            pool.create(0).map_err(step("starting the pool for volumes"))?;
        }
        Ok(pool)
    }

    fn lookup(&self, connection: &Connect, vm: &VmSpec) -> Result<Option<Domain>, HypervisorError> {
        match connection.lookup_domain_by_uuid(vm.uuid) {
            Ok(domain) => Ok(Some(domain)),
            Err(error) if is(&error, ErrorNumber::NoDomain) => Ok(None),
            Err(error) => Err(step(format!("looking for {}", vm.name))(error)),
        }
    }

    /// Defines and starts a machine with the most that this host's libvirt can give of its processor.
    fn define_and_start(&self, connection: &Connect, vm: &VmSpec) -> Result<(), HypervisorError> {
        let mut refused = None;
        for cpu in CPU_MODES {
            let result = self
                .define(connection, vm, cpu)
                .and_then(|domain| domain.create().map_err(step(format!("starting {}", vm.name))));
            match result {
                Err(HypervisorError::Libvirt { step, source }) if is_about_the_processor(&source) => {
                    tracing::info!(vm.id = %vm.id, "libvirt refuses {cpu:?} on this host: {source}");
                    refused = Some(HypervisorError::Libvirt { step, source });
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or_else(|| HypervisorError::Refused(format!("no processor fits {}", vm.name))))
    }

    fn define(&self, connection: &Connect, vm: &VmSpec, cpu: CpuMode) -> Result<Domain, HypervisorError> {
        let xml = domain::definition(vm, &self.host(), cpu);
        connection.define_domain_xml(&xml).map_err(step(format!("defining {}", vm.name)))
    }

    /// Writes a file of the pool under a hidden name, lets `finish` complete it, and gives it its name.
    fn put(
        &self,
        name: &str,
        from: &Path,
        finish: impl FnOnce(&str) -> Result<(), HypervisorError>,
    ) -> Result<Ensured, HypervisorError> {
        let name = checked_name(name)?;
        folder(&self.places.volumes)?;
        let place = self.places.volumes.join(name);
        if place.exists() {
            return Ok(Ensured::AlreadyThere);
        }
        let hidden = format!(".{name}.new");
        let new = self.places.volumes.join(&hidden);
        let io = |source| HypervisorError::Io { step: format!("writing the volume {name}"), source };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Ok(()) | Err(_) => {}
        }
        fs::copy(from, &new).map_err(io)?;
        // A seed holds a secret; libvirt gives the file to QEMU's user while the machine runs.
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(io)?;
        finish(&hidden)?;
        File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&new, &place).map_err(io)?;
        File::open(&self.places.volumes).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(Ensured::Created)
    }
}

fn remove_file(folder: &Path, name: &str) -> Result<(), HypervisorError> {
    match fs::remove_file(folder.join(checked_name(name)?)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HypervisorError::Io { step: format!("removing {name}"), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Hypervisor for Libvirt {
    fn capacity(&self) -> Result<Capacity, HypervisorError> {
        let connection = self.connect()?;
        let node = connection.node_info().map_err(step("asking libvirt for the host"))?;
        let libvirt = connection.lib_version().map_err(step("asking for libvirt's version"))?;
        let kind = connection.driver_type().map_err(step("asking for the hypervisor"))?;
        let version = connection.hyp_version().map_err(step("asking for the hypervisor's version"))?;
        // An error is the answer of a host without KVM: "KVM is not supported by '/usr/bin/qemu-system-x86_64'".
        let wanted = &self.places.domain_type;
        let fit = connection.domain_capabilities(None, None, None, Some(wanted), 0).is_ok();
        let pool = self.pool(&connection)?;
        pool.refresh(0).map_err(step("looking through the pool for volumes"))?;
        let space = pool.info().map_err(step("asking for the space in the pool for volumes"))?;
        Ok(Capacity {
            hypervisor: format!("{kind} {}, libvirt {}", dotted(version), dotted(libvirt)),
            domain_type: if fit { wanted.clone() } else { "none".to_owned() },
            threads: node.cpus,
            memory_mib: node.memory / 1024,
            volume_bytes: space.capacity,
            volume_free_bytes: space.available,
        })
    }

    fn vms(&self) -> Result<Vec<Vm>, HypervisorError> {
        let connection = self.connect()?;
        let domains = connection.list_all_domains(0).map_err(step("asking libvirt for its machines"))?;
        let mut vms = Vec::new();
        for domain in domains {
            match ours(&domain) {
                Ok(vm) => vms.extend(vm),
                // It went away while we looked.
                Err(error) if is(&error, ErrorNumber::NoDomain) => {}
                Err(error) => return Err(step("asking libvirt for a machine")(error)),
            }
        }
        vms.sort_by_key(|vm| vm.id);
        Ok(vms)
    }

    fn volumes(&self) -> Result<BTreeSet<String>, HypervisorError> {
        folder(&self.places.volumes)?;
        let step = || format!("reading {}", self.places.volumes.display());
        let entries = fs::read_dir(&self.places.volumes)
            .map_err(|source| HypervisorError::Io { step: step(), source })?;
        let mut names = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|source| HypervisorError::Io { step: step(), source })?;
            // Hidden names are volumes that are still written.
            names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
        }
        Ok(names)
    }

    fn ensure_volume(&self, volume: &VolumeSpec, image: &Path) -> Result<Ensured, HypervisorError> {
        let bytes = check_image(image)?;
        if volume.bytes < bytes {
            return Err(HypervisorError::Refused(format!(
                "the volume {} should have {} MiB, but its image has {} MiB",
                volume.name,
                volume.bytes >> 20,
                bytes >> 20
            )));
        }
        // The whole file is copied rather than used as a backing file: the volume outlives the image. Its compressed
        // clusters stay compressed until the guest writes to them.
        self.put(&volume.name, image, |hidden| {
            if volume.bytes == bytes {
                return Ok(());
            }
            let connection = self.connect()?;
            let pool = self.pool(&connection)?;
            pool.refresh(0).map_err(step("looking through the pool for volumes"))?;
            pool.lookup_storage_vol_by_name(hidden)
                .and_then(|there| there.resize(volume.bytes, 0))
                .map_err(step(format!("growing the volume {}", volume.name)))
        })
    }

    fn ensure_seed(&self, name: &str, content: &Path) -> Result<Ensured, HypervisorError> {
        self.put(name, content, |_| Ok(()))
    }

    fn ensure_vm(&self, vm: &VmSpec) -> Result<Ensured, HypervisorError> {
        checked_name(&vm.volume.name)?;
        folder(&self.places.consoles)?;
        folder(&self.places.sockets)?;
        let connection = self.connect()?;
        let Some(domain) = self.lookup(&connection, vm)? else {
            self.define_and_start(&connection, vm)?;
            return Ok(Ensured::Created);
        };
        let there = ours(&domain).map_err(step(format!("asking libvirt for {}", vm.name)))?;
        let Some(there) = there else {
            return Err(HypervisorError::Refused(format!(
                "a machine that is not ours has the UUID {} of {}",
                vm.uuid, vm.name
            )));
        };
        match (there.running, there.fingerprint == fingerprint(vm)) {
            (true, true) => Ok(Ensured::AlreadyThere),
            (true, false) => {
                // libvirt keeps what runs and takes the new definition at the next start.
                self.define(&connection, vm, CpuMode::HostPassthrough)?;
                Ok(Ensured::Redefined)
            }
            (false, _) => {
                self.define_and_start(&connection, vm)?;
                Ok(Ensured::Started)
            }
        }
    }

    fn console(&self, vm: &Vm, kind: ConsoleKind) -> Result<PathBuf, HypervisorError> {
        let connection = self.connect()?;
        let domain =
            connection.lookup_domain_by_uuid(vm.uuid).map_err(step(format!("looking for {}", vm.name)))?;
        // As it runs, which may be otherwise than it is defined.
        let xml = domain.xml_desc(0).map_err(step(format!("asking for {}", vm.name)))?;
        domain::console(&xml, kind).ok_or_else(|| {
            HypervisorError::Refused(format!(
                "{} was started without a {} console that can be looked at; it has one from its next start",
                vm.name,
                kind.word()
            ))
        })
    }

    fn remove_vm(&self, vm: &Vm) -> Result<Ensured, HypervisorError> {
        let connection = self.connect()?;
        let domain = match connection.lookup_domain_by_uuid(vm.uuid) {
            Ok(domain) => Some(domain),
            Err(error) if is(&error, ErrorNumber::NoDomain) => None,
            Err(error) => return Err(step(format!("looking for {}", vm.name))(error)),
        };
        if let Some(domain) = &domain
            && domain.is_active().map_err(step(format!("asking for {}", vm.name)))?
        {
            domain.destroy().map_err(step(format!("ending {}", vm.name)))?;
        }
        // The definition goes last: as long as it is there, an interrupted removal is found and finished.
        remove_file(&self.places.volumes, &vm.volume)?;
        remove_file(&self.places.volumes, &vm.seed)?;
        let console = domain::console_name(&vm.volume);
        remove_file(&self.places.consoles, &console)?;
        // The end of a console that became too long.
        remove_file(&self.places.consoles, &format!("{console}.old"))?;
        let Some(domain) = domain else { return Ok(Ensured::AlreadyThere) };
        let everything = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        domain.undefine_flags(everything).map_err(step(format!("removing {}", vm.name)))?;
        Ok(Ensured::Removed)
    }
}

/// Reads our mark off a machine; `None` for somebody else's.
fn ours(domain: &Domain) -> Result<Option<Vm>, Error> {
    let element = match domain.metadata(
        sys::VIR_DOMAIN_METADATA_ELEMENT as i32,
        Some(METADATA_URI),
        sys::VIR_DOMAIN_AFFECT_CONFIG,
    ) {
        Ok(element) => element,
        Err(error) if is(&error, ErrorNumber::NoDomainMetadata) => return Ok(None),
        Err(error) => return Err(error),
    };
    let value = |name| xml::attribute(&element, name).map(str::to_owned);
    let (Some(id), Some(volume), Some(seed)) =
        (value("id").and_then(|id| id.parse().ok()), value("volume"), value("seed"))
    else {
        return Ok(None);
    };
    Ok(Some(Vm {
        id,
        uuid: domain.uuid()?,
        name: domain.name()?,
        running: domain.is_active()?,
        volume,
        seed,
        fingerprint: value("fingerprint").unwrap_or_default(),
    }))
}

/// libvirt has several numbers for "this processor cannot be had here", depending on when it notices.
fn is_about_the_processor(error: &Error) -> bool {
    let vague = [ErrorNumber::ConfigUnsupported, ErrorNumber::OperationFailed, ErrorNumber::InternalError];
    is(error, ErrorNumber::CpuIncompatible)
        || (vague.iter().any(|number| is(error, *number))
            && error.message().to_ascii_lowercase().contains("cpu"))
}

fn is(error: &Error, number: ErrorNumber) -> bool {
    error.code() == Enum::Known(number)
}

/// libvirt writes 11.3.0 as 11003000.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

fn step(step: impl Into<String>) -> impl FnOnce(Error) -> HypervisorError {
    let step = step.into();
    move |source| HypervisorError::Libvirt { step, source }
}

fn folder(path: &Path) -> Result<(), HypervisorError> {
    fs::create_dir_all(path).map_err(|source| HypervisorError::Io {
        step: format!("making the folder {}", path.display()),
        source,
    })
}
