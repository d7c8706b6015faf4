//! ProxyDHCP beside other people's DHCP servers, with real firmware in QEMU.

use std::{fs, path::Path, sync::Arc, time::Duration};

use pxe::{NoteKind, dhcp::Mode, probe};
use tempfile::TempDir;

use crate::appliance::{Appliance, udhcpc};
use crate::namespace::{Machine, Process, inside, run, start, switch};

/// dnsmasq as 10.77.0.2, as it stands in offices.
fn dnsmasq(machine: &Machine, folder: &Path) -> Process {
    machine.run("ip addr add 10.77.0.2/16 dev eth0");
    machine.start(&format!(
        "dnsmasq -k -p 0 --conf-file=/dev/null --user=root --no-ping -i eth0 \
         --dhcp-range=10.77.9.10,10.77.9.99,1h --dhcp-leasefile={}/leases",
        folder.display()
    ))
}

/// Kea as 10.77.0.2.
fn kea(machine: &Machine, folder: &Path) -> Process {
    machine.run("ip addr add 10.77.0.2/16 dev eth0");
    let conf = folder.join("kea.json");
    fs::write(
        &conf,
        r#"{"Dhcp4": {"interfaces-config": {"interfaces": ["eth0"]}, "valid-lifetime": 3600,
            "lease-database": {"type": "memfile", "persist": false},
            "subnet4": [{"subnet": "10.77.0.0/16", "pools": [{"pool": "10.77.9.10-10.77.9.99"}]}]}}"#,
    )
    .unwrap();
    let at = folder.display();
    machine.start(&format!("env KEA_LOCKFILE_DIR=none KEA_PIDFILE_DIR={at} kea-dhcp4 -c {}", conf.display()))
}

/// A machine on the switch: SeaBIOS with the iPXE of its NIC, or OVMF with its own network stack.
fn power_on(folder: &Path, uefi: bool) -> Process {
    run("ip tuntap add tap0 mode tap");
    run("ip link set tap0 master lan0 up");
    let mut command =
        "qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -m 256 -display none -serial null \
                       -netdev tap,id=lan,ifname=tap0,script=no,downscript=no"
            .to_owned();
    if uefi {
        let vars = folder.join("vars.fd");
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
        command += &format!(
            " -device virtio-net-pci,netdev=lan,mac=52:54:00:aa:bb:01,bootindex=1,romfile= \
             -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
             -drive if=pflash,format=raw,file={}",
            vars.display()
        );
    } else {
        command += " -device e1000,netdev=lan,mac=52:54:00:aa:bb:01,bootindex=1";
    }
    start(&command)
}

fn power_off(machine: Process) {
    drop(machine);
    run("ip link del tap0");
}

/// Waits for a line as long as firmware under emulation on a busy machine takes.
async fn noted(appliance: &Appliance, words: &str) {
    for _ in 0..1200 {
        if appliance.book.notes().iter().any(|note| note.step.to_string().contains(words)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no note of {words:?} among {:#?}", appliance.book.notes());
}

#[test]
fn ipxe_boots_from_us_with_an_address_of_another() {
    inside("clients_proxy::ipxe_boots_from_us_with_an_address_of_another", async || {
        let other = switch(1).pop().unwrap();
        let appliance = Appliance::start_as(Mode::Proxy);
        for server in [dnsmasq, kea] {
            let folder = TempDir::new().unwrap();
            let serving = server(&other, folder.path());
            let ipxe = power_on(folder.path(), false);
            // It fetches its script, so it has an address, and that can only be the other's.
            noted(
                &appliance,
                "DISCOVER of iPXE: boot information, no address, boot file http://10.77.0.1/boot/",
            )
            .await;
            noted(&appliance, "of another DHCP server, 10.77.0.2").await;
            noted(&appliance, "iPXE script: its own disk").await;
            power_off(ipxe);
            drop(serving);
            other.run("ip addr flush dev eth0");
            appliance.book.forget();
        }
        assert_eq!(appliance.book.committed(), []);
        appliance.end().await;
    });
}

#[test]
fn uefi_boots_from_us_with_an_address_of_another() {
    inside("clients_proxy::uefi_boots_from_us_with_an_address_of_another", async || {
        let other = switch(1).pop().unwrap();
        let folder = TempDir::new().unwrap();
        let _serving = dnsmasq(&other, folder.path());
        let appliance = Appliance::start_as(Mode::Proxy);
        let machine = power_on(folder.path(), true);
        noted(&appliance, "DISCOVER of UEFI firmware: boot information, no address").await;
        noted(&appliance, "of another DHCP server, 10.77.0.2").await;
        // On port 4011, from the address that the other one gave.
        noted(&appliance, "REQUEST of UEFI firmware: boot information, no address, boot file shimx64.efi")
            .await;
        noted(&appliance, "TFTP shimx64.efi: 6 bytes").await;
        power_off(machine);
        appliance.end().await;
    });
}

#[test]
fn systems_beside_another_server_are_left_alone() {
    inside("clients_proxy::systems_beside_another_server_are_left_alone", async || {
        let mut machines = switch(2);
        let machine = Arc::new(machines.pop().unwrap());
        let other = machines.pop().unwrap();
        let folder = TempDir::new().unwrap();
        let _serving = dnsmasq(&other, folder.path());
        let appliance = Appliance::start_as(Mode::Proxy);
        machine.run("ip link set eth1 down");
        machine.run("ip link set eth1 name eth0");
        machine.run("ip link set eth0 up");
        let told = udhcpc(&machine, "").await.unwrap();
        assert!(told["ip"].starts_with("10.77.9."), "{told:?}");
        assert_eq!(told["serverid"], "10.77.0.2");
        assert!(appliance.book.notes().iter().all(|note| note.step.kind() != NoteKind::Dhcp));
        // Nor is it taken for a server of addresses.
        let found = probe::dhcp_servers("lan0", Duration::from_secs(5)).await.unwrap();
        assert_eq!(found.iter().map(|server| server.address.to_string()).collect::<Vec<_>>(), ["10.77.0.2"]);
        appliance.end().await;
    });
}
