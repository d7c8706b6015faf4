//! The node API over real TLS on loopback, with a real log on disk: what a machine may do with its key,
//! a host and a guest with their certificates, and what nobody may do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use appliance::core::{Actor, Core};
use appliance::store::Store;
use appliance::tokens::Tokens;
use appliance::vault::Vault;
use appliance::{App, auth, ca, core, node_api, reconcile, tls};
use fleet::machine::Phase;
use fleet::wire::{
    Capacity, CertificateReply, CertificateRequest, Cpu, Desired, Disk, Failed, Firmware, Hardware,
    Installed, Instruction, Neighbour, Nic, Observed, ObservedVm, Report, ReportReply, VmState,
};
use fleet::{Command, Mac, MachineId, NodeId, VmId};
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

struct Site {
    dir: tempfile::TempDir,
    app: App,
    address: SocketAddr,
    tasks: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Site {
    async fn start() -> Site {
        Site::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Site {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let store = Store::sqlite(&dir.path().join("log.sqlite")).await.unwrap();
        let core = core::start(store, &mut tasks, shutdown.clone()).await.unwrap();
        if core.fleet().site.is_none() {
            let found = Command::Found {
                site: uuid::Uuid::new_v4(),
                network: "10.77.0.0/16".parse().unwrap(),
                address: Ipv4Addr::new(10, 77, 0, 1),
                domain: "elisandra".into(),
            };
            core.execute(&Actor::Appliance, found).await.unwrap();
        }
        let app = App {
            rehearsal: false,
            seen: Arc::new(appliance::dhcp::Seen::since(core::now())),
            wires: Arc::default(),
            files: dir.path().join("files"),
            bundles: dir.path().join("bundles"),
            systems: dir.path().join("systems"),
            ca: Arc::new(ca::Ca::open(dir.path()).unwrap()),
            tokens: Arc::new(Tokens::open(&dir.path().join("secret")).unwrap()),
            auth: Arc::new(auth::Auth::open(core.store().clone()).await.unwrap()),
            vault: Arc::new(Vault::open(core.store().clone(), &dir.path().join("seal-key")).await.unwrap()),
            bmcs: Arc::new(appliance::bmc::Bmcs::new(appliance::bmc::Settings::default())),
            powers: Arc::default(),
            consoles: Arc::default(),
            glances: Arc::default(),
            core,
        };
        artifacts(&app.files);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls::node_config(app.ca.server_certificate(&[address.ip()]).unwrap()).unwrap();
        let router = node_api::router(app.clone());
        tasks.spawn(tls::serve(listener, config, router, Some(Arc::clone(&app.ca)), shutdown.clone()));
        tasks.spawn(reconcile::run(app.core.clone(), shutdown.clone()));
        Site { dir, app, address, tasks, shutdown }
    }

    /// Ends every task as a crash does: nothing is asked, nothing is flushed.
    async fn crash_and_start_again(mut self) -> Site {
        self.shutdown.cancel();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.app.core.store().pool().close().await;
        Site::start_in(self.dir).await
    }

    fn core(&self) -> &Core {
        &self.app.core
    }

    fn node(&self, key: &KeyPair, certificate: &str) -> Node {
        let identity = format!("{}{certificate}", key.serialize_pem());
        let client = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.app.ca.pem().as_bytes()).unwrap()])
            .identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap())
            .build()
            .unwrap();
        Node { client, base: format!("https://{}", self.address) }
    }

    /// A node with a key of its own and no certificate of the site.
    fn stranger(&self) -> (KeyPair, Node) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        let node = self.node(&key, &certificate.pem());
        (key, node)
    }

    /// A machine that was found, installed and given its certificate.
    async fn host(&self, mac: Mac) -> (MachineId, Node) {
        let (key, node) = self.stranger();
        let (machine, token) = node.report(mac).await;
        node.kickstart(&token).await.unwrap();
        assert_eq!(node.post("/node/installed", &Installed { token }).await, StatusCode::NO_CONTENT);
        let reply: CertificateReply = node.certificate(&key, None).await.unwrap();
        assert_eq!(reply.node, NodeId::Machine(machine));
        (machine, self.node(&key, &reply.certificate_pem))
    }

    async fn timeline(&self, subject: impl ToString) -> Vec<String> {
        // Notes are written every half second.
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        let lines = self.core().timeline(&[subject.to_string()], 100).await.unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    async fn wait_until(&self, what: &str, holds: impl Fn(&fleet::Fleet) -> bool) {
        let mut changes = self.core().watch_fleet();
        let limit = crate::example::PATIENCE;
        let waited = tokio::time::timeout(limit, changes.wait_for(|head| holds(&head.fleet))).await;
        assert!(waited.is_ok(), "{what} did not happen within {limit:?}");
    }
}

struct Node {
    client: Client,
    base: String,
}

impl Node {
    async fn post(&self, path: &str, body: &impl Serialize) -> StatusCode {
        self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap().status()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, (StatusCode, String)> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(answer.json().await.unwrap()),
            status => Err((status, answer.text().await.unwrap())),
        }
    }

    async fn report(&self, mac: Mac) -> (MachineId, String) {
        let body = Report { hardware: hardware(mac), neighbours: vec![] };
        let answer = self.client.post(format!("{}/node/report", self.base)).json(&body).send().await.unwrap();
        let reply: ReportReply = answer.json().await.unwrap();
        match reply.instruction {
            Instruction::Install { token } => (reply.machine, token),
            other => panic!("told to {other:?}"),
        }
    }

    async fn kickstart(&self, token: &str) -> Result<String, (StatusCode, String)> {
        let answer = self.client.get(format!("{}/node/kickstart/{token}", self.base)).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(answer.text().await.unwrap()),
            status => Err((status, answer.text().await.unwrap())),
        }
    }

    async fn certificate(
        &self,
        key: &KeyPair,
        enrollment: Option<String>,
    ) -> Result<CertificateReply, (StatusCode, String)> {
        let csr_pem = CertificateParams::new(vec![]).unwrap().serialize_request(key).unwrap().pem().unwrap();
        let body = CertificateRequest { csr_pem, enrollment };
        let answer =
            self.client.post(format!("{}/node/certificate", self.base)).json(&body).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(answer.json().await.unwrap()),
            status => Err((status, answer.text().await.unwrap())),
        }
    }
}

fn artifacts(files: &Path) {
    std::fs::create_dir_all(files).unwrap();
    let file = serde_json::json!({ "sha256": "a".repeat(64), "bytes": 1 });
    let manifest = serde_json::json!({
        "version": "1",
        "files": { "vmlinuz": file, "initrd": file, "live.squashfs": file, "guest.img": file },
    });
    std::fs::write(files.join("manifest.json"), manifest.to_string()).unwrap();
}

fn hardware(mac: Mac) -> Hardware {
    Hardware {
        firmware: Firmware::Bios,
        uuid: None,
        manufacturer: None,
        product: None,
        serial: None,
        board_serial: None,
        cpu: Cpu { model: "QEMU".into(), sockets: 1, threads: 2, virtualization: true },
        memory_mib: 4096,
        disks: vec![Disk {
            path: "/dev/vda".into(),
            by_id: Some("/dev/disk/by-id/virtio-A".into()),
            serial: Some("A".into()),
            model: None,
            bytes: 20 << 30,
            rotational: false,
            removable: false,
            contents: vec![],
        }],
        nics: vec![Nic { name: "eth0".into(), mac, driver: None, carrier: true, speed_mbit: None }],
        boot_mac: mac,
        bmc: None,
    }
}

fn observed(vms: Vec<ObservedVm>) -> Observed {
    Observed {
        revision: 1,
        version: "0.1.0".into(),
        uptime_secs: 60,
        capacity: Some(Capacity {
            hypervisor: "QEMU".into(),
            domain_type: "kvm".into(),
            threads: 2,
            memory_mib: 4096,
            volume_bytes: 20 << 30,
            volume_free_bytes: 20 << 30,
        }),
        vms,
        software: vec![],
        neighbours: vec![],
    }
}

#[tokio::test]
async fn an_install_token_works_once_and_only_for_its_machine() {
    let site = Site::start().await;
    let (_, node) = site.stranger();
    let (machine, token) = node.report(MAC).await;

    let (_, thief) = site.stranger();
    let (status, sentence) = thief.kickstart(&token).await.unwrap_err();
    assert_eq!(
        (status, sentence.as_str()),
        (StatusCode::FORBIDDEN, r#"{"error":"this install token belongs to host-1"}"#)
    );
    assert_eq!(node.kickstart("m1-1-00").await.unwrap_err().0, StatusCode::FORBIDDEN);

    let kickstart = node.kickstart(&token).await.unwrap();
    assert!(kickstart.contains("liveimg") && kickstart.contains("virtio-A"), "{kickstart}");
    let (status, sentence) = node.kickstart(&token).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(sentence, r#"{"error":"the install token of host-1 was used already"}"#);

    assert_eq!(
        thief.post("/node/installed", &Installed { token: token.clone() }).await,
        StatusCode::FORBIDDEN
    );
    assert!(matches!(site.core().fleet().machines[&machine].phase, Phase::Installing { .. }));

    let timeline = site.timeline(machine).await.join("\n");
    assert!(timeline.contains("showed this machine's install token with another key"), "{timeline}");
    assert!(timeline.contains("asked for again"), "{timeline}");
}

#[tokio::test]
async fn only_the_call_home_makes_a_machine_installed() {
    let site = Site::start().await;
    let (key, node) = site.stranger();
    let (machine, token) = node.report(MAC).await;
    assert_eq!(node.certificate(&key, None).await.unwrap_err().0, StatusCode::FORBIDDEN);
    node.kickstart(&token).await.unwrap();
    assert!(matches!(site.core().fleet().machines[&machine].phase, Phase::Installing { .. }));
    node.post("/node/installed", &Installed { token: token.clone() }).await;
    assert_eq!(site.core().fleet().machines[&machine].phase, Phase::Installed);
    assert_eq!(node.post("/node/installed", &Installed { token }).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_failed_installation_says_where_and_can_be_tried_again() {
    let site = Site::start().await;
    let (_, node) = site.stranger();
    let (machine, token) = node.report(MAC).await;
    let failed = Failed { token, step: "copying the image".into(), error: "No space left on device".into() };
    assert_eq!(node.post("/node/failed", &failed).await, StatusCode::NO_CONTENT);
    site.wait_until("failing", |fleet| matches!(fleet.machines[&machine].phase, Phase::Failed { .. })).await;
    let person = Actor::admin("admin");
    site.core()
        .execute(&person, Command::Adopt { machine, wipe: false, profile: None, disk: None })
        .await
        .unwrap();
    assert_eq!(node.report(MAC).await.0, machine);
}

#[tokio::test]
async fn a_nodes_certificate_is_good_for_that_node_alone() {
    let site = Site::start().await;
    let (first, node) = site.host(MAC).await;
    let (second, other) = site.host(Mac([0x52, 0x54, 0, 0, 0, 2])).await;
    assert!(node.get::<Desired>(&format!("/node/{first}/desired")).await.is_ok());

    let path = format!("/node/{first}/desired");
    let (status, _) = other.get::<Desired>(&path).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        other.post(&format!("/node/{first}/observed"), &observed(vec![])).await,
        StatusCode::FORBIDDEN
    );
    let (_, stranger) = site.stranger();
    assert_eq!(stranger.get::<Desired>(&path).await.unwrap_err().0, StatusCode::FORBIDDEN);
    assert!(site.core().observed().is_empty());

    let timeline = site.timeline(first).await.join("\n");
    assert!(timeline.contains(&format!("{second} at 127.0.0.1 tried to act as this node")), "{timeline}");

    // Removed: its certificate is worth nothing any more.
    let remove = Command::RemoveMachine { machine: second, force: false };
    site.core().execute(&Actor::admin("admin"), remove).await.unwrap();
    for _ in 0..2 {
        let (status, sentence) = other.get::<Desired>(&format!("/node/{second}/desired")).await.unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(sentence.contains("m2 was removed from this site"), "{sentence}");
    }
    let shown = site.timeline("site").await;
    let line = "m2 was removed and still speaks, from 127.0.0.1";
    assert_eq!(shown.iter().filter(|shown| shown.contains(line)).count(), 1, "{shown:?}");
}

#[tokio::test]
async fn what_a_machine_hears_over_lldp_makes_the_switch_and_the_port() {
    let site = Site::start().await;
    let (host, node) = site.host(MAC).await;
    let hears = |port: &str| {
        let (chassis, system) = ("00:1b:54:aa:bb:00".to_owned(), Some("sw1".to_owned()));
        let neighbour = Neighbour { mac: MAC, chassis, port: port.into(), system };
        Observed { neighbours: vec![neighbour], ..observed(vec![]) }
    };
    for port in ["7", "8"] {
        node.post(&format!("/node/{host}/observed"), &hears(port)).await;
        let there = |fleet: &fleet::Fleet| {
            fleet::switch::socket_of(fleet, MAC).is_some_and(|socket| socket.port == port)
        };
        site.wait_until("the port", there).await;
    }
    let (_, waiting) = site.stranger();
    let second = Mac([0x52, 0x54, 0, 0, 0, 2]);
    let neighbour = Neighbour { mac: second, chassis: "c2".into(), port: "1".into(), system: None };
    let body = Report { hardware: hardware(second), neighbours: vec![neighbour] };
    assert_eq!(waiting.post("/node/report", &body).await, StatusCode::OK);
    assert!(fleet::switch::socket_of(&site.core().fleet(), second).is_some());
}

#[tokio::test]
async fn a_vm_reaches_its_host_and_its_guest_enrols_once() {
    let site = Site::start().await;
    let (host, node) = site.host(MAC).await;
    node.post(&format!("/node/{host}/observed"), &observed(vec![])).await;
    site.wait_until("the host", |fleet| fleet.hosts.contains_key(&host)).await;

    let empty: Desired = node.get(&format!("/node/{host}/desired")).await.unwrap();
    let waiting = {
        let path = format!("/node/{host}/desired?revision={}&wait=30", empty.revision);
        tokio::spawn(async move { (node.get::<Desired>(&path).await.unwrap(), node) })
    };
    let spec = fleet::vm::NewVm {
        name: "web".into(),
        vcpus: 1,
        memory_mib: 512,
        disk_gib: 2,
        image: fleet::vm::Image { name: "guest.img".into(), sha256: "a".repeat(64), bytes: 1 },
        recover: fleet::vm::Recover::Wait,
        tenant: None,
    };
    site.core().execute(&Actor::admin("admin"), Command::CreateVm { spec }).await.unwrap();
    let (desired, node) = waiting.await.unwrap();
    let vm = desired.vms[0].clone();
    assert_eq!(vm.name, "web");
    let user_data: serde_json::Value =
        serde_json::from_str(vm.seed.user_data.strip_prefix("#cloud-config\n").unwrap()).unwrap();
    let enrollment = user_data["elisandra"]["enrollment"].as_str().unwrap().to_owned();

    let running = observed(vec![ObservedVm { id: vm.id, state: VmState::Running }]);
    node.post(&format!("/node/{host}/observed"), &running).await;
    site.wait_until("running", |fleet| fleet.vms[&vm.id].phase == fleet::vm::Phase::Running).await;

    let (key, guest) = site.stranger();
    assert!(guest.certificate(&key, Some("v1-00".into())).await.is_err());
    let other_key = KeyPair::generate().unwrap();
    let refused = guest.certificate(&other_key, Some(enrollment.clone())).await.unwrap_err();
    assert!(refused.1.contains("another key than the one of this connection"), "{}", refused.1);
    let reply = guest.certificate(&key, Some(enrollment.clone())).await.unwrap();
    assert_eq!(reply.node, NodeId::Vm(VmId(1)));
    assert_eq!(guest.certificate(&key, Some(enrollment.clone())).await.unwrap().node, reply.node);
    let (thief_key, thief) = site.stranger();
    assert_eq!(thief.certificate(&thief_key, Some(enrollment)).await.unwrap_err().0, StatusCode::FORBIDDEN);

    let guest = site.node(&key, &reply.certificate_pem);
    let desired: Desired = guest.get("/node/v1/desired").await.unwrap();
    assert_eq!(desired.hostname, "web");
    assert_eq!(
        guest.get::<Desired>(&format!("/node/{host}/desired")).await.unwrap_err().0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn after_a_crash_everything_goes_on_where_it_was() {
    let site = Site::start().await;
    let (_, node) = site.stranger();
    let (machine, token) = node.report(MAC).await;
    let before = serde_json::to_string(&*site.core().fleet()).unwrap();

    let site = site.crash_and_start_again().await;
    assert_eq!(
        serde_json::to_string(&*site.core().fleet()).unwrap(),
        before,
        "replayed log equals live state"
    );
    // The machine itself has noticed nothing but another port.
    let node = Node { base: format!("https://{}", site.address), ..node };
    node.kickstart(&token).await.unwrap();

    let site = site.crash_and_start_again().await;
    let node = Node { base: format!("https://{}", site.address), ..node };
    assert_eq!(node.kickstart(&token).await.unwrap_err().0, StatusCode::FORBIDDEN, "used before the crash");
    assert_eq!(node.post("/node/installed", &Installed { token }).await, StatusCode::NO_CONTENT);
    assert_eq!(site.core().fleet().machines[&machine].phase, Phase::Installed);
}

#[tokio::test]
async fn beside_another_dhcp_server_machines_have_the_address_that_they_speak_from() {
    let site = Site::start().await;
    let beside = Command::ObserveServer {
        foreign: true,
        network: "127.0.0.0/8".parse().unwrap(),
        address: Ipv4Addr::new(127, 0, 0, 2),
    };
    site.core().execute(&Actor::Appliance, beside).await.unwrap();
    let mac = Mac([0x52, 0x54, 0, 0, 0, 9]);
    let (machine, host) = site.host(mac).await;
    let spoken = Ipv4Addr::new(127, 0, 0, 1);
    assert_eq!(site.core().fleet().leases.address(mac), Some(spoken), "it was found and installed");
    let other = Mac([0x52, 0x54, 0, 0, 0, 10]);
    let taken = Command::Learn { mac: other, address: spoken };
    site.core().execute(&Actor::Wire(other), taken).await.unwrap();
    assert_eq!(
        host.post(&format!("/node/{machine}/observed"), &observed(vec![])).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(site.core().fleet().leases.address(mac), Some(spoken), "a host says it with every word");
}
