use std::net::Ipv4Addr;

use fleet::Mac;
use fleet::wire::{ImageSpec, Seed, VolumeSpec};
use hypervisor::Fake;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;

struct World {
    agent: Agent,
    _changed: mpsc::Receiver<()>,
    /// Nothing else is ever wanted.
    news: watch::Sender<Option<Desired>>,
    hypervisor: Arc<Fake>,
    dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let hypervisor = Arc::new(Fake::default());
    let files = Files {
        hostname: dir.path().join("hostname"),
        authorized_keys: dir.path().join("authorized_keys"),
        restarted: dir.path().join("restarted"),
    };
    let (agent, _changed) = Agent::new(
        Arc::clone(&hypervisor) as Arc<dyn Hypervisor>,
        Images::at(dir.path().join("images")),
        dir.path().join("consoles"),
        files,
    );
    World { agent, _changed, news: watch::Sender::new(None), hypervisor, dir }
}

/// The smallest thing with a qcow2 header of version 2 and a disk of 1 MiB.
fn image() -> Vec<u8> {
    let mut header = vec![0u8; 200];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    header[24..32].copy_from_slice(&(1u64 << 20).to_be_bytes());
    header
}

fn spec(id: u64, url: &str) -> VmSpec {
    let content = image();
    VmSpec {
        id: VmId(id),
        name: format!("vm-{id}"),
        uuid: Uuid::from_u128(u128::from(id)),
        vcpus: 1,
        memory_mib: 384,
        volume: VolumeSpec {
            name: format!("vm-{id}-v{id}"),
            bytes: 2 << 30,
            image: ImageSpec {
                url: url.to_owned(),
                sha256: hex::encode(Sha256::digest(&content)),
                bytes: content.len() as u64,
            },
        },
        mac: Mac([0x52, 0x54, 0, 0, 1, 1]),
        bridge: "lan0".to_owned(),
        address: Ipv4Addr::new(10, 77, 1, 10),
        seed: Seed {
            meta_data: "{}".to_owned(),
            user_data: "{}".to_owned(),
            network_config: "{}".to_owned(),
        },
    }
}

fn desired(revision: u64, vms: Vec<VmSpec>) -> Desired {
    Desired {
        revision,
        // The machine that the test runs on keeps its name.
        hostname: nix::unistd::gethostname().unwrap().into_string().unwrap(),
        ssh_keys: vec!["ssh-ed25519 AAAA me".to_owned()],
        vms,
        gone: vec![],
        software: vec![],
        restart: None,
        check: None,
        bmc_account: None,
        alone: None,
        consoles: vec![],
    }
}

/// Serves the image to everybody who asks.
async fn web() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await.unwrap();
            let content = image();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&content).await.unwrap();
        }
    });
    format!("http://{address}/guest.img")
}

fn states(agent: &Agent) -> Vec<(u64, VmState)> {
    agent.word.read().1.into_iter().map(|(id, state)| (id.0, state)).collect()
}

#[tokio::test]
async fn machines_come_stay_and_go() {
    let World { agent, news, hypervisor, dir, .. } = world();
    let news = &mut news.subscribe();
    let url = web().await;
    agent.settle(&desired(7, vec![spec(1, &url), spec(2, &url)]), news).await;
    assert_eq!(states(&agent), [(1, VmState::Running), (2, VmState::Running)]);
    assert_eq!(agent.word.read().0, 7);
    assert_eq!(std::fs::read_to_string(dir.path().join("authorized_keys")).unwrap(), "ssh-ed25519 AAAA me\n");

    // Somebody shuts it down inside: it is desired, so it runs again.
    hypervisor.stop(VmId(1));
    agent.settle(&desired(7, vec![spec(1, &url), spec(2, &url)]), news).await;
    assert_eq!(states(&agent), [(1, VmState::Running), (2, VmState::Running)]);

    let without = Desired { gone: vec![VmId(1), VmId(9)], ..desired(8, vec![spec(2, &url)]) };
    agent.settle(&without, news).await;
    assert_eq!(
        states(&agent),
        [(1, VmState::Gone), (2, VmState::Running), (9, VmState::Gone)],
        "also what never was"
    );
    let names = ["vm-2-v2", "vm-2-v2.seed"].map(str::to_owned);
    assert_eq!(hypervisor.volumes().unwrap(), BTreeSet::from(names));
}

#[tokio::test]
async fn one_machine_that_fails_holds_no_other_up() {
    let World { agent, news, hypervisor, dir: _dir, .. } = world();
    let news = &mut news.subscribe();
    let url = web().await;
    let mut lost = spec(1, &url);
    lost.volume.image = ImageSpec { url: url.clone(), sha256: "00".repeat(32), bytes: 200 };
    agent.settle(&desired(1, vec![lost, spec(2, &url)]), news).await;
    let states = states(&agent);
    let (1, VmState::Failing { reason }) = &states[0] else { panic!("{states:?}") };
    assert!(reason.contains("was changed on the way: its SHA-256 is"), "{reason}");
    assert_eq!(states[1], (2, VmState::Running));
    assert_eq!(hypervisor.vms().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hypervisor_that_is_away_is_said_and_tried_again() {
    let World { agent, news, hypervisor, dir: _dir, .. } = world();
    let news = &mut news.subscribe();
    let wanted = desired(1, vec![spec(1, &web().await)]);
    hypervisor.fail("vms", "libvirtd is away");
    agent.settle(&wanted, news).await;
    assert_eq!(states(&agent), [(1, VmState::Failing { reason: "libvirtd is away".to_owned() })]);
    assert_eq!(agent.word.read().0, 0);
    hypervisor.succeed("vms");

    hypervisor.fail("ensure_vm", "no room in memory");
    agent.settle(&wanted, news).await;
    assert_eq!(states(&agent), [(1, VmState::Failing { reason: "no room in memory".to_owned() })]);
    hypervisor.succeed("ensure_vm");

    agent.settle(&wanted, news).await;
    assert_eq!(states(&agent), [(1, VmState::Running)]);
}

#[tokio::test]
async fn a_machine_that_does_not_go_is_still_seen() {
    let World { agent, news, hypervisor, dir: _dir, .. } = world();
    let news = &mut news.subscribe();
    let url = web().await;
    agent.settle(&desired(1, vec![spec(1, &url)]), news).await;
    hypervisor.fail("remove_vm", "it hangs in the kernel");
    agent.settle(&desired(2, vec![]), news).await;
    assert_eq!(states(&agent), [(1, VmState::Failing { reason: "it hangs in the kernel".to_owned() })]);
    hypervisor.succeed("remove_vm");
    agent.settle(&desired(2, vec![]), news).await;
    assert_eq!(states(&agent), []);
}

#[tokio::test]
async fn what_is_told_is_what_is() {
    let World { agent, news, hypervisor, dir: _dir, .. } = world();
    let news = &mut news.subscribe();
    let url = web().await;
    agent.settle(&desired(3, vec![spec(1, &url)]), news).await;
    let said = observed(&agent.word, None, vec![]);
    assert_eq!(said.revision, 3);
    assert_eq!(said.vms, [ObservedVm { id: VmId(1), state: VmState::Running }]);
    assert_eq!(said.capacity, None);

    let capacity = watch::Sender::new(None);
    let mut known = capacity.subscribe();
    let measuring =
        tokio::spawn(measure(Arc::clone(&hypervisor) as Arc<dyn Hypervisor>, capacity, agent.word.clone()));
    known.wait_for(Option::is_some).await.unwrap();
    assert_eq!(observed(&agent.word, known.borrow().clone(), vec![]).capacity.unwrap().domain_type, "kvm");
    measuring.abort();
    // What is not known any more is not told.
    hypervisor.fail("capacity", "libvirtd is away");
    let capacity = watch::Sender::new(known.borrow().clone());
    let mut known = capacity.subscribe();
    tokio::spawn(measure(hypervisor, capacity, agent.word.clone()));
    known.wait_for(Option::is_none).await.unwrap();
}
