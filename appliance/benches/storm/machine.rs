//! One machine, from power-on to its report.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use fleet::Mac;
use fleet::wire::{Cpu, Disk, DiskContent, Firmware as Said, Hardware, Nic, Report, ReportReply};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::packet::{self, Answer, Offered, patience, question};
use crate::servers::SERVER;
use crate::transfer::{self, Tftp};

/// Of kernel and initrd, the first so much is fetched.
const HEAD: usize = 1 << 20;
/// Between two reports of a machine that waits.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// undionly.kpxe, iPXE's own DHCP, script.ipxe.
    Bios,
    /// shim, GRUB, grub.cfg.
    Uefi,
}

pub const STEPS: [&str; 7] = ["address", "loader", "script", "kernel", "initrd", "system", "TLS"];

pub struct Machine {
    pub number: u32,
    pub firmware: Firmware,
    pub identity: Identity,
    pub answers: mpsc::UnboundedReceiver<Answer>,
    pub lan: Arc<Lan>,
    /// Hears how long each step took.
    pub steps: mpsc::UnboundedSender<(usize, Duration)>,
}

/// What all machines share: the cable.
pub struct Lan {
    pub dhcp: UdpSocket,
    /// Addresses that this namespace is to have from now on.
    pub addresses: mpsc::UnboundedSender<Ipv4Addr>,
}

pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    /// A machine makes it in its initrd; a thousand do so on processors of their own.
    pub fn generate() -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { certificate: CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap(), key }
    }
}

impl Machine {
    /// Goes on with reporting until it is dropped.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut step = 0;
        let mut begun = Instant::now();
        let mut done = |machine: &Machine| {
            let now = Instant::now();
            let _ = machine.steps.send((step, now - begun));
            (step, begun) = (step + 1, now);
        };
        let (arch, class): (u8, &[u8]) = match self.firmware {
            Firmware::Bios => (0, b"PXEClient:Arch:00000:UNDI:002001"),
            Firmware::Uefi => (7, b"PXEClient:Arch:00007:UNDI:003016"),
        };
        let mut firmware = option(60, class);
        firmware.extend([93, 2, 0, arch, 94, 3, 1, 2, 1, 57, 2, 5, 0xc0]);
        firmware.extend(option(97, &[&[0][..], &uuid(self.number).to_bytes_le()].concat()));
        let (own, file) = self.address(1, &firmware).await?;
        self.lan.addresses.send(own)?;
        done(&self);

        let mac = pxe::MacAddr(self.mac().0).dashed().to_string();
        match self.firmware {
            Firmware::Bios => {
                transfer::tftp(own, &file, Tftp { block: 1456, window: 1 }).await?;
            }
            Firmware::Uefi => {
                let how = Tftp { block: 1468, window: 4 };
                transfer::tftp(own, &file, how).await?;
                transfer::tftp(own, "grubx64.efi", how).await?;
            }
        }
        done(&self);
        let script = match self.firmware {
            Firmware::Bios => {
                let mut ipxe = firmware.clone();
                ipxe.extend(option(77, b"iPXE"));
                ipxe.extend(option(175, &[177, 5, 1, 0x1a, 0xf4, 0x10, 0]));
                let (_, script) = self.address(2, &ipxe).await?;
                let path = script.strip_prefix(&format!("http://{SERVER}")).map(str::to_owned);
                path.ok_or_else(|| anyhow::anyhow!("iPXE is told to boot {script:?}"))?
            }
            Firmware::Uefi => format!("/boot/{mac}/grub.cfg"),
        };
        let script = String::from_utf8(transfer::get(own, &script, usize::MAX).await?)?;
        done(&self);
        for file in ["vmlinuz", "initrd"] {
            anyhow::ensure!(
                script.contains("/boot/files") && script.contains(&format!("/{file}")),
                "{script}"
            );
            transfer::get(own, &format!("/boot/files/{file}"), HEAD).await?;
            done(&self);
        }

        self.address(3, &option(12, b"elisandra")).await?;
        let authority = transfer::get(own, "/boot/ca.pem", usize::MAX).await?;
        done(&self);
        let tls = TlsConnector::from(Arc::new(self.tls(&authority)?));
        let stream = transfer::connect(own, 7443).await?;
        let mut stream =
            tls.connect(ServerName::IpAddress(std::net::IpAddr::V4(SERVER).into()), stream).await?;
        done(&self);
        let body = serde_json::to_string(&Report {
            hardware: hardware(self.number, self.firmware),
            neighbours: Vec::new(),
        })?;
        let request = format!(
            "POST /node/report HTTP/1.1\r\nHost: {SERVER}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        loop {
            stream.write_all(request.as_bytes()).await?;
            let (head, body) = transfer::answer(&mut stream, usize::MAX).await?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}{}", String::from_utf8_lossy(&body));
            let _: ReportReply = serde_json::from_slice(&body)?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK; returns the address and the boot file.
    async fn address(&mut self, stage: u32, options: &[u8]) -> anyhow::Result<(Ipv4Addr, String)> {
        let number = stage << 24 | self.number;
        let mut offered: Option<Offered> = None;
        let mut tries = 0;
        loop {
            let packet = question(number, self.mac().0, offered, options);
            packet::send(&self.lan.dhcp, &packet);
            let until = Instant::now() + patience(self.number, tries);
            let answer = loop {
                let waited = timeout(until - Instant::now(), self.answers.recv()).await;
                match waited {
                    Ok(Some(answer)) if answer.number != number => {}
                    Ok(Some(answer)) => break Some(answer),
                    Ok(None) => anyhow::bail!("the cable is gone"),
                    Err(_) => break None,
                }
            };
            match answer {
                Some(Answer { kind: 2, address, server, .. }) if offered.is_none() => {
                    (offered, tries) = (Some((address, server)), 0);
                }
                Some(Answer { kind: 5, address, file, .. }) => return Ok((address.into(), file)),
                Some(Answer { kind: 6, .. }) => offered = None,
                _ => {
                    tries += 1;
                    anyhow::ensure!(tries < 20, "no answer to DHCP as stage {stage}");
                }
            }
        }
    }

    pub fn mac(&self) -> Mac {
        Mac(packet::mac(self.number))
    }

    fn tls(&self, authority: &[u8]) -> anyhow::Result<ClientConfig> {
        use rustls_pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(authority)?)?;
        let key = PrivateKeyDer::try_from(self.identity.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let chain = vec![self.identity.certificate.der().clone()];
        Ok(ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?)
    }
}

/// A server with two disks that hold data, so that it waits for a person.
pub fn hardware(number: u32, firmware: Firmware) -> Hardware {
    let disk = |place: u32| Disk {
        path: format!("/dev/nvme{place}n1"),
        by_id: Some(format!("/dev/disk/by-id/nvme-Micron_7450_S4EV{:06}{place}", number)),
        serial: Some(format!("S4EV{:06}{place}", number)),
        model: Some("Micron 7450".into()),
        bytes: 960_197_124_096,
        rotational: false,
        removable: false,
        contents: vec![DiskContent {
            path: format!("/dev/nvme{place}n1p1"),
            what: "ext4".into(),
            label: None,
        }],
    };
    let nic = |name: &str, mac, carrier| Nic {
        name: name.into(),
        mac,
        driver: Some("bnxt_en".into()),
        carrier,
        speed_mbit: carrier.then_some(25_000),
    };
    let mac = Mac(packet::mac(number));
    let mut second = mac;
    second.0[1] = 0x20;
    Hardware {
        firmware: match firmware {
            Firmware::Bios => Said::Bios,
            Firmware::Uefi => Said::UefiSecureBoot,
        },
        uuid: Some(uuid(number)),
        manufacturer: Some("Dell Inc.".into()),
        product: Some("PowerEdge R650".into()),
        serial: Some(format!("7XK{:04}", number)),
        board_serial: None,
        cpu: Cpu { model: "Intel Xeon Silver 4314".into(), sockets: 2, threads: 64, virtualization: true },
        memory_mib: 262_144,
        disks: vec![disk(0), disk(1)],
        nics: vec![nic("eno1", mac, true), nic("eno2", second, false)],
        boot_mac: mac,
        bmc: None,
    }
}

fn uuid(number: u32) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x4c4c_4544_0000_1000_8000_0000_0000_0000 + u128::from(number))
}

fn option(code: u8, value: &[u8]) -> Vec<u8> {
    let mut option = vec![code, value.len() as u8];
    option.extend(value);
    option
}
