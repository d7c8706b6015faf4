//! OpenIPMI's `ipmi_sim`: IPMI 2.0 for one machine, over LAN and, from inside the
//! machine, by its KCS interface. The program that it asks for the state of the
//! chassis, and tells what to do with it, passes both on to the panel; another one
//! knows how it is set up on its network.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use super::{PASSWORD, THIS_COMPUTER, USER, plain_text};
use crate::appliance::reserve;
use crate::child;
use crate::machine::{Machine, mac_of, mac_text};

/// Its MAC address is made as those of the machine's own NICs are.
const BMC_NIC: u8 = 255;

/// One management controller, at the usual address, without sensors.
const COMMANDS: &str = "\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 100 0x0a
mc_enable 0x20
";

pub(super) fn command(
    folder: &Path,
    address: SocketAddr,
    panel: SocketAddr,
    machine: &Machine,
) -> Result<Command> {
    let chassis = program(folder, "chassis", &chassis_program(panel))?;
    let lan = program(folder, "lan", &lan_program(&machine.name))?;
    let kcs = reserve(0)?;
    machine.connect_kcs(kcs);
    let configuration = configuration(address, kcs, plain_text(&chassis)?, plain_text(&lan)?, machine.uuid);
    fs::write(folder.join("lan.conf"), configuration)?;
    fs::write(folder.join("commands"), COMMANDS)?;
    fs::create_dir_all(folder.join("state"))?;
    let mut command = child::command("ipmi_sim");
    command.args(["-n", "-c", "lan.conf", "-f", "commands", "-s", "state"]);
    Ok(command)
}

/// Answers a presence ping of ASF (RMCP, ASF 2.0 section 3.2.4.2).
pub(super) fn is_heard(address: SocketAddr) -> bool {
    const PING: [u8; 12] = [6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 0, 0, 0];
    let asked = || {
        let socket = UdpSocket::bind((address.ip(), 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(&PING)?;
        socket.recv(&mut [0; 64])
    };
    asked().is_ok()
}

fn program(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What the machine learns of its BMC's network: the appliance finds it at that address, but not at IPMI's port.
fn lan_program(name: &str) -> String {
    format!(
        "#!/bin/sh\n\
         case \"$*\" in\n\
         'get ip_addr') echo ip_addr:{THIS_COMPUTER} ;;\n\
         'get ip_addr_src') echo ip_addr_src:static ;;\n\
         'get subnet_mask') echo subnet_mask:255.255.255.0 ;;\n\
         'get mac_addr') echo mac_addr:{} ;;\n\
         *) exit 1 ;;\n\
         esac\n",
        mac_text(mac_of(name, BMC_NIC))
    )
}

fn chassis_program(panel: SocketAddr) -> String {
    format!(
        "#!/bin/bash\n\
         exec 3<>/dev/tcp/{}/{} || exit 1\n\
         echo \"$@\" >&3\n\
         read -r answer <&3 || exit 1\n\
         echo \"$answer\"\n\
         [[ $answer != refused:* ]]\n",
        panel.ip(),
        panel.port()
    )
}

/// Without a GUID, which goes into the keys of a session of IPMI 2.0, ipmi_sim lets nobody in.
fn configuration(
    address: SocketAddr,
    kcs: SocketAddr,
    chassis_program: &str,
    lan_program: &str,
    guid: Uuid,
) -> String {
    format!(
        "name \"lab\"\n\
         set_working_mc 0x20\n\
         startlan 1\n\
         addr {} {}\n\
         priv_limit admin\n\
         allowed_auths_admin md5\n\
         guid {}\n\
         lan_config_program \"{lan_program}\"\n\
         endlan\n\
         serial 15 {} {} codec VM\n\
         chassis_control \"{chassis_program}\"\n\
         user 1 false \"\" \"\" user 10\n\
         user 2 true \"{USER}\" \"{PASSWORD}\" admin 10\n",
        address.ip(),
        address.port(),
        guid.simple(),
        kcs.ip(),
        kcs.port()
    )
}
