//! The starts of a machine, told apart in what was seen of it.

use std::net::IpAddr;

use super::seen::{End, Got, Millis, Role, Seen, What, Who};
use crate::step::Loader;

/// Steps further apart than this belong to different starts, whatever they are.
const APART: Millis = 10 * 60 * 1000;

/// One start: how far it came.
#[derive(Debug, Default)]
pub struct Attempt {
    pub start: Millis,
    pub end: Millis,
    /// Firmware or iPXE asked for an address, so it starts from the network.
    network: bool,
    /// DISCOVERs that nothing came of.
    pub discovers: u32,
    /// It was told what to boot beside another server.
    pub beside: bool,
    pub took: bool,
    pub elsewhere: Option<IpAddr>,
    pub declined: bool,
    pub no_address: Option<Box<str>>,
    pub no_loader: Option<u16>,
    /// Why TLS to the HTTPS server did not come about, and how often.
    pub handshake: Option<(Box<str>, u32)>,
    pub loader: Option<(Box<str>, End)>,
    /// How often the loader was asked for in a row, with the same end.
    pub loader_times: u32,
    /// GRUB's first configuration came over TFTP.
    pub config: bool,
    /// iPXE has asked for an address.
    pub ipxe: bool,
    pub script: Option<(Loader, Box<str>)>,
    /// GRUB's script was to start iPXE, which was fetched and has not come for its own.
    pub handed_over: bool,
    pub kernel: Option<(Box<str>, End)>,
    pub initrd: Option<(Box<str>, End)>,
    /// When the booted system asked for an address.
    pub system: Option<Millis>,
    /// The last that was heard is that it waits for its turn.
    pub waits: bool,
}

/// Tells the starts apart.
pub fn attempts<'a>(steps: impl IntoIterator<Item = &'a Seen>) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for seen in steps {
        if attempts.last().is_none_or(|last| last.ends_before(seen)) {
            attempts.push(Attempt { start: seen.first, ..Attempt::default() });
        }
        if let Some(last) = attempts.last_mut() {
            last.take(seen);
        }
    }
    attempts
}

impl Attempt {
    pub fn over_network(&self) -> bool {
        self.network
    }

    fn ends_before(&self, seen: &Seen) -> bool {
        if seen.first > self.end + APART {
            return true;
        }
        match &seen.what {
            // Firmware asks at the beginning only; one that asked in vain for a while is in the same start. Some ask over
            // HTTP after they have asked for PXE.
            What::Asked { who: Who::Firmware | Who::HttpFirmware, .. } | What::NoLoader { .. } => {
                self.fetched() || self.ipxe || self.system.is_some()
            }
            // As the ROM of a network card it is the firmware; otherwise it comes after its own file.
            What::Asked { who: Who::Ipxe, .. } => {
                self.script.is_some() && !self.handed_over || self.system.is_some()
            }
            _ => false,
        }
    }

    fn fetched(&self) -> bool {
        self.loader.is_some() || self.config || self.script.is_some() || self.kernel.is_some()
    }

    fn take(&mut self, seen: &Seen) {
        self.end = seen.last;
        self.waits = false;
        match &seen.what {
            What::Asked { who, got } => {
                if *got != Got::Nothing {
                    self.no_address = None;
                }
                if *who == Who::System {
                    self.system = Some(seen.last);
                    return;
                }
                self.network = true;
                self.ipxe |= *who == Who::Ipxe;
                // After a REQUEST it begins anew.
                if self.took || self.elsewhere.is_some() {
                    self.discovers = 0;
                }
                self.discovers += seen.times;
                self.beside = *got == Got::BootOnly;
            }
            What::Took { who } => {
                self.declined = false;
                self.no_address = None;
                if *who == Who::System {
                    self.system = Some(seen.last);
                } else {
                    self.network = true;
                    self.took = true;
                }
            }
            What::Elsewhere { server } => self.elsewhere = Some(*server),
            What::Declined => self.declined = true,
            What::NoAddress { reason } => self.no_address = Some(reason.clone()),
            What::NoLoader { arch } => {
                self.network = true;
                self.no_loader = Some(*arch);
            }
            What::File { role, name, end, .. } => self.file(*role, name, end, seen.times),
            What::Script { loader, boots } => {
                self.network = true;
                self.script = Some((*loader, boots.clone()));
                self.handed_over = false;
            }
            What::Handshake { reason } => {
                let before = self.handshake.take().map_or(0, |(_, times)| times);
                self.handshake = Some((reason.clone(), before + seen.times));
            }
            What::Waits => self.waits = true,
        }
    }

    fn file(&mut self, role: Role, name: &str, end: &End, times: u32) {
        let file = Some((name.into(), end.clone()));
        match role {
            Role::Loader => {
                // It gave up on a better file that is not there (HTTP's before TFTP's).
                if matches!(end, End::Missing) && matches!(&self.loader, Some((_, End::Whole))) {
                    return;
                }
                let same = self.loader.as_ref().is_some_and(|(before, how)| {
                    **before == *name && std::mem::discriminant(how) == std::mem::discriminant(end)
                });
                self.loader_times = if same { self.loader_times + times } else { times };
                self.handed_over = self.script.is_some() && *end == End::Whole;
                self.loader = file;
                self.network = true;
            }
            Role::Config => self.config |= *end == End::Whole,
            Role::Kernel => self.kernel = file,
            Role::Initrd => self.initrd = file,
            Role::Other => {}
        }
    }
}
