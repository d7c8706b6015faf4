//! /dev/ipmi0: one question and one answer at a time (linux/ipmi.h).

use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Sys;
use crate::tool;

/// A controller answers within milliseconds, or is restarting.
const ANSWER: Duration = Duration::from_secs(2);
/// The driver asks the controller who it is before there is a device.
const APPEARS: Duration = Duration::from_secs(3);

/// A way to ask the controller: function, command, data; None for no answer.
pub type Ask = Box<dyn FnMut(u8, u8, &[u8]) -> Option<Vec<u8>>>;

/// Loads the drivers where the firmware `promises` one, the first time only: an inventory
/// is taken again and again.
pub fn open(sys: &Sys, promises: bool) -> Option<Ask> {
    static LOAD: Once = Once::new();
    let path = sys.path("dev/ipmi0");
    if !path.exists() && promises && *sys == Sys::default() {
        LOAD.call_once(|| load(&path));
    }
    let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    let mut number = 0;
    Some(Box::new(move |function, command, data: &[u8]| {
        number += 1;
        ask(&file, number, function, command, data)
    }))
}

fn load(path: &Path) {
    let modules = ["-q", "-a", "ipmi_si", "ipmi_devintf"];
    // A kernel without them has no controller for us either.
    let _ = tool::run("loading the drivers of the BMC", tool::SHORT, Command::new("modprobe").args(modules));
    let until = Instant::now() + APPEARS;
    while !path.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `struct ipmi_system_interface_addr`
#[repr(C)]
struct Address {
    kind: libc::c_int,
    channel: libc::c_short,
    lun: u8,
}

/// `struct ipmi_msg`
#[repr(C)]
struct Message {
    function: u8,
    command: u8,
    length: u16,
    data: *mut u8,
}

/// `struct ipmi_req`
#[repr(C)]
struct Request {
    address: *mut Address,
    address_length: libc::c_uint,
    number: libc::c_long,
    message: Message,
}

/// `struct ipmi_recv`
#[repr(C)]
struct Received {
    kind: libc::c_int,
    address: *mut Address,
    address_length: libc::c_uint,
    number: libc::c_long,
    message: Message,
}

/// `_IOR('i', 13, struct ipmi_req)`
const SEND_COMMAND: libc::c_ulong = 2 << 30 | (size_of::<Request>() as libc::c_ulong) << 16 | 0x69 << 8 | 13;
/// `_IOWR('i', 11, struct ipmi_recv)`: what is longer than the room is cut off.
const RECEIVE_TRUNCATED: libc::c_ulong =
    3 << 30 | (size_of::<Received>() as libc::c_ulong) << 16 | 0x69 << 8 | 11;

fn ask(file: &File, number: libc::c_long, function: u8, command: u8, data: &[u8]) -> Option<Vec<u8>> {
    const SYSTEM_INTERFACE: libc::c_int = 0x0c;
    const BMC_CHANNEL: libc::c_short = 0x0f;
    let mut address = Address { kind: SYSTEM_INTERFACE, channel: BMC_CHANNEL, lun: 0 };
    let mut asked = data.to_vec();
    let mut request = Request {
        address: &raw mut address,
        address_length: u32::try_from(size_of::<Address>()).ok()?,
        number,
        message: Message {
            function,
            command,
            length: u16::try_from(asked.len()).ok()?,
            data: asked.as_mut_ptr(),
        },
    };
    #[expect(unsafe_code, reason = "an ioctl; what it points at lives until it returns")]
    let sent = unsafe { libc::ioctl(file.as_raw_fd(), SEND_COMMAND, &raw mut request) };
    if sent != 0 {
        return None;
    }
    let until = Instant::now() + ANSWER;
    // Events and answers to what timed out before come by the same way.
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let timeout = PollTimeout::try_from(left).ok()?;
        let mut waiting = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let (answered, answer) = receive(file).ok()?;
        if answered == number {
            return match answer.split_first() {
                Some((0, data)) => Some(data.to_vec()),
                Some(_) | None => None,
            };
        }
    }
    None
}

/// The number of the request, and the answer with its completion code.
fn receive(file: &File) -> Result<(libc::c_long, Vec<u8>), Error> {
    /// `struct ipmi_addr`, the largest of all.
    #[repr(C, align(8))]
    struct Room([u8; 40]);
    let mut room = Room([0; 40]);
    let mut data = vec![0; 272];
    let mut received = Received {
        kind: 0,
        address: (&raw mut room).cast(),
        address_length: 40,
        number: 0,
        message: Message { function: 0, command: 0, length: 272, data: data.as_mut_ptr() },
    };
    #[expect(unsafe_code, reason = "an ioctl; what it points at lives until it returns")]
    let done = unsafe { libc::ioctl(file.as_raw_fd(), RECEIVE_TRUNCATED, &raw mut received) };
    if done != 0 {
        return Err(Error::last_os_error());
    }
    data.truncate(received.message.length.into());
    Ok((received.number, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's header comes to on 64-bit machines.
    #[test]
    fn requests_are_numbered_as_in_the_header() {
        assert_eq!(SEND_COMMAND, 0x8028_690d);
        assert_eq!(RECEIVE_TRUNCATED, 0xc030_690b);
        assert_eq!(size_of::<Address>(), 8);
    }
}
