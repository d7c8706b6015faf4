//! A machine gets Debian: what it boots, what its installer is told, and who is refused, over real HTTP. The site's
//! network is one of the loopback interface, so that each client has the address that was leased to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::example::{mac, report, sight};
use appliance::core::{self, Actor, Core};
use appliance::dhcp;
use appliance::mirror::Trouble;
use appliance::store::Store;
use appliance::tokens::Tokens;
use fleet::machine::Phase;
use fleet::medium::{Family, Medium};
use fleet::profile::{Kind, Profile};
use fleet::site::{Adopt, Policy};
use fleet::{Command, Mac, MachineId, Subject};
use pxe::http::{self, Limits, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct World {
    core: Core,
    server: SocketAddr,
    dir: tempfile::TempDir,
    _tasks: JoinSet<anyhow::Result<()>>,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut tasks = JoinSet::new();
        let store = Store::sqlite(&dir.path().join("log.sqlite")).await.unwrap();
        let shutdown = CancellationToken::new();
        let core = core::start(store, &mut tasks, shutdown.clone()).await.unwrap();
        let found = Command::Found {
            site: uuid::Uuid::from_u128(1),
            network: "127.77.0.0/16".parse().unwrap(),
            address: Ipv4Addr::new(127, 77, 0, 1),
            domain: "elisandra".into(),
        };
        core.execute(&Actor::Appliance, found).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let folder = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(folder("systems/debian-13")).unwrap();
        std::fs::write(folder("systems/debian-13/linux"), "kernel").unwrap();
        let files = http::Files {
            address: Ipv4Addr::new(127, 77, 0, 1),
            artifacts: folder("files"),
            loaders: folder("loaders"),
            systems: folder("systems"),
            ca_pem: String::new(),
            ca_sha256: "ab".repeat(32).parse().unwrap(),
            directory: dhcp::directory(
                core.clone(),
                Arc::new(Tokens::made_from(b"secret")),
                Arc::new(dhcp::Seen::since(appliance::core::now())),
                false,
            ),
        };
        let listener = Listener { socket: listener, tls: None };
        tasks
            .spawn(async move { Ok(http::serve(vec![listener], files, Limits::default(), shutdown).await?) });
        let world = World { core, server, dir, _tasks: tasks };
        let policy = Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() };
        world.order(Command::SetPolicy { policy }).await;
        let medium = Medium {
            name: "debian-13".into(),
            family: Family::Debian,
            title: "Debian 13 netboot installer".into(),
            version: "13".into(),
            arch: "amd64".into(),
            bytes: 1,
            sha256: "ab".repeat(32),
            kernel: Some("linux".into()),
            initrd: Some("initrd.gz".into()),
            image: None,
        };
        world.order(Command::AddMedium { medium }).await;
        world
    }

    async fn order(&self, command: Command) {
        self.core.execute(&Actor::admin("ada"), command).await.unwrap();
    }

    /// Found, adopted with the profile, and started into its installer.
    async fn installing(&self, number: u8, profile: &str) -> MachineId {
        sight(&self.core, mac(number)).await;
        let machine = report(&self.core, mac(number), false).await;
        let profile = Some(profile.to_owned());
        self.order(Command::Adopt { machine, wipe: false, profile, disk: None }).await;
        report(&self.core, mac(number), false).await;
        machine
    }

    fn address(&self, mac: Mac) -> Ipv4Addr {
        self.core.fleet().leases.address(mac).unwrap()
    }

    async fn ask(&self, from: Ipv4Addr, method: &str, path: &str, headers: &str) -> (u16, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
        let mut stream = socket.connect(self.server).await.unwrap();
        let request = format!("{method} {path} HTTP/1.0\r\n{headers}Content-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn get(&self, from: Ipv4Addr, path: &str) -> (u16, String) {
        self.ask(from, "GET", path, "").await
    }

    /// The path of the answers, as the boot script of the machine names it.
    async fn answers(&self, number: u8) -> String {
        let path = format!("/boot/{}/script.ipxe", mac(number));
        let (status, script) = self.get(self.address(mac(number)), &path).await;
        assert_eq!(status, 200);
        let at = script.find("/boot/answers/").unwrap_or_else(|| panic!("{script}"));
        let url = script[at..].split([' ', '\n']).next().unwrap();
        url.rsplit_once('/').unwrap().0.to_owned()
    }

    async fn timeline(&self, machine: MachineId) -> String {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let entries = self.core.timeline(&[machine.to_string()], 100).await.unwrap();
        serde_json::to_string(&entries).unwrap()
    }

    fn phase(&self, machine: MachineId) -> Phase {
        self.core.fleet().machines[&machine].phase.clone()
    }
}

#[tokio::test]
async fn a_machine_is_installed_with_debian_and_nobody_else_gets_its_answers() {
    let world = World::new().await;
    let machine = world.installing(1, "debian").await;
    let other = world.installing(3, "debian").await;
    let (own, others) = (world.address(mac(1)), world.address(mac(3)));

    let (_, script) = world.get(own, &format!("/boot/{}/script.ipxe", mac(1))).await;
    assert!(script.contains("http://127.77.0.1/boot/files/os/debian-13/linux"), "{script}");
    assert!(script.contains("auto=true priority=critical url=http://127.77.0.1/boot/answers/"), "{script}");
    // The network has neither, and the installer's answers come later.
    assert!(script.contains(" netcfg/no_default_route=true netcfg/get_nameservers= "), "{script}");
    assert_eq!(world.get(own, "/boot/files/os/debian-13/linux").await, (200, "kernel".into()));

    let answers = world.answers(1).await;
    assert_ne!(answers, world.answers(3).await);
    let preseed = format!("{answers}/preseed.cfg");
    for headers in [
        "".to_owned(),
        format!("X-Forwarded-For: {own}\r\nHost: 127.77.0.1\r\n"),
        format!("Forwarded: for={own}\r\nX-Real-IP: {own}\r\nHost: {own}\r\n"),
    ] {
        assert_eq!(world.ask(others, "GET", &preseed, &headers).await.0, 403, "{headers}");
        assert_eq!(world.ask(others, "POST", &format!("{answers}/done"), &headers).await.0, 403);
    }
    assert_eq!(world.get(Ipv4Addr::new(127, 0, 0, 1), &preseed).await.0, 403, "an address that is nobody's");
    for wrong in ["/boot/answers/x/preseed.cfg", "/boot/answers/", "/boot/answers/m1-1-00/preseed.cfg"] {
        assert!([403, 404].contains(&world.get(own, wrong).await.0), "{wrong}");
    }
    assert_eq!(world.get(own, &format!("{answers}/ks.cfg")).await.0, 403, "of another installer");
    assert_eq!(world.get(own, &format!("{answers}/done")).await.0, 403, "it has not begun");
    assert!(matches!(world.phase(machine), Phase::Installing { kickstart_served: false, .. }));

    let (status, text) = world.get(own, &preseed).await;
    assert_eq!(status, 200);
    assert!(text.contains("d-i netcfg/get_hostname string host-1\n"), "{text}");
    assert!(text.contains("d-i mirror/http/hostname string 127.77.0.1:3142\n"), "{text}");
    assert!(text.contains("'/dev/disk/by-id/nvme-Micron_7450_S4EV0001'"), "{text}");
    assert_eq!(world.get(own, &preseed).await.0, 200, "as often as it needs them");
    assert_eq!(world.ask(own, "POST", &format!("{answers}/done"), "").await, (200, "ok\n".into()));
    assert_eq!(world.phase(machine), Phase::Installed);
    assert_eq!(world.get(own, &preseed).await.0, 403, "after the installation");
    let mirror = "http://deb.debian.org/debian";
    let told = |path, trouble| {
        appliance::systems::mirror_in_trouble(&world.core, mirror, own.into(), path, trouble);
    };
    told("pool/main/k/kernel-image-di.udeb", Trouble::Missing);
    told("dists/trixie/main/binary-amd64/Release", Trouble::Garbage("it has 5 bytes and not 6"));
    let lines = world.timeline(machine).await;
    let refused = format!("Its preseed.cfg was asked for from {others}: that is not an address of host-1");
    assert!(lines.contains(&refused), "{lines}");
    let lacks = format!("The mirror {mirror} has no pool/main/k/kernel-image-di.udeb");
    assert!(lines.contains(&lacks), "{lines}");
    let gives = "gives another dists/trixie/main/binary-amd64/Release: it has 5 bytes and not 6";
    assert!(lines.contains(gives), "{lines}");
    assert!(lines.contains(&format!("asked for from {own}: host-1 is installed")), "{lines}");
    assert!(world.dir.path().exists());

    let answers = world.answers(3).await;
    assert_eq!(world.get(others, &format!("{answers}/preseed.cfg")).await.0, 200);
    assert_eq!(world.get(others, &format!("{answers}/failed/late_command")).await.0, 200);
    assert!(matches!(world.phase(other), Phase::Failed { step, .. } if step == "late_command"));
}

/// Over IPv6 too: the address of its NIC is made of the leased one, and no other one opens them.
#[tokio::test]
async fn over_ipv6_answers_are_for_the_machines_own_leased_address() {
    let world = World::new().await;
    world.installing(1, "debian").await;
    world.installing(3, "debian").await;
    let preseed = format!("{}/preseed.cfg", world.answers(1).await);
    let path = preseed.strip_prefix("/boot/answers/").unwrap();
    let tokens = Arc::new(Tokens::made_from(b"secret"));
    let directory = |six| {
        let seen = Arc::new(dhcp::Seen::since(appliance::core::now()));
        dhcp::directory(world.core.clone(), Arc::clone(&tokens), seen, six)
    };
    let network = dhcp::network6(&world.core.fleet()).unwrap();
    assert_eq!((network.prefix_len(), network.network().segments()[0] >> 8), (64, 0xfd));
    assert_eq!((directory(true).network6(), directory(false).network6()), (Some(network), None));

    let in_network = |number| pxe::dhcp6::address_in(network, world.address(mac(number)));
    let (own, others) = (in_network(1), in_network(3));
    // The same last bits elsewhere, and what a NIC gives itself by its MAC address (SLAAC).
    let elsewhere = pxe::dhcp6::address_in("2001:db8::/64".parse().unwrap(), world.address(mac(1)));
    let slaac = Ipv6Addr::from(u128::from(network.network()) | 0x5054_00ff_fe4a_1001);
    let nobody = pxe::dhcp6::address_in(network, Ipv4Addr::new(127, 77, 200, 1));
    for wrong in [others, elsewhere, slaac, nobody, Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST.to_ipv6_mapped()]
    {
        assert!(directory(true).answers(path, wrong.into()).await.is_err(), "{wrong}");
    }
    let mapped = world.address(mac(1)).to_ipv6_mapped();
    for right in [own, mapped] {
        let text = directory(true).answers(path, right.into()).await.unwrap();
        assert!(text.contains("d-i netcfg/get_hostname string host-1\n"), "{right}: {text}");
    }
}

#[tokio::test]
async fn a_token_is_for_one_installation() {
    let world = World::new().await;
    let machine = world.installing(1, "debian").await;
    let own = world.address(mac(1));
    let first = world.answers(1).await;
    world.order(Command::Cancel { subject: Subject::Machine(machine) }).await;
    assert_eq!(world.get(own, &format!("{first}/preseed.cfg")).await.0, 403);
    world.installing(1, "debian").await;
    let second = world.answers(1).await;
    assert_ne!(first, second);
    assert_eq!(world.get(own, &format!("{first}/preseed.cfg")).await.0, 403);
    assert_eq!(world.get(own, &format!("{second}/preseed.cfg")).await.0, 200);
}

#[tokio::test]
async fn a_boot_loaders_own_text_is_rendered_for_the_machine() {
    let world = World::new().await;
    let template = "#!ipxe\necho {{ machine.name }} {{ machine.product }}\nchain http://{{ appliance }}/x\n";
    let profile = Profile { template: Some(template.into()), ..Profile::plain("mine", Kind::Ipxe) };
    world.order(Command::SetProfile { profile }).await;
    world.installing(1, "mine").await;
    let own = world.address(mac(1));
    let (_, script) = world.get(own, &format!("/boot/{}/script.ipxe", mac(1))).await;
    assert_eq!(script, "#!ipxe\necho host-1 PowerEdge_R650\nchain http://127.77.0.1/x\n\n");
}
