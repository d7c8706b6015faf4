//! A power strip as a third party emulates it: snmpsim plays an APC, and ClusterLabs' fence_apc_snmp speaks to it.

use crate::client;
use crate::example;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::fake_bmc::{Fake, PASSWORD, USER};
use axum::http::StatusCode;
use fleet::Fleet;
use serde_json::{Value, json};

const COMMUNITY: &str = "planted-community";
/// sPDUOutletCtl of PowerNet-MIB: 1 is on, 2 is off.
const OUTLET: &str = ".1.3.6.1.4.1.318.1.1.4.4.2.1.3";

/// An old Master Switch, with three outlets that are on.
struct Apc {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Apc {
    fn start() -> Apc {
        let folder = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let outlets = (1..=3).map(|outlet| format!("{}.{outlet}|2:writecache|value=1\n", &OUTLET[1..]));
        let known = format!("1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.318.1.3.4.1\n{}", outlets.collect::<String>());
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join(format!("data/{COMMUNITY}.snmprec")), known).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(tools().join("snmpsim-command-responder"))
            .args(["--data-dir=data", "--cache-dir=cache"])
            .arg(format!("--agent-udpv4-endpoint=127.0.0.1:{port}"));
        if nix::unistd::geteuid().is_root() {
            // It does not run as root unless it is told to.
            command.args(["--process-user=root", "--process-group=root"]);
        }
        let process = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let apc = Apc { folder, port, process };
        let until = Instant::now() + Duration::from_secs(120);
        while apc.get(1).is_none() {
            let log = std::fs::read_to_string(apc.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "snmpsim does not answer: {log}");
        }
        apc
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asked past everything of ours.
    fn get(&self, outlet: u32) -> Option<String> {
        let mut snmpget = Command::new("snmpget");
        snmpget.args(["-v1", "-c", COMMUNITY, "-t", "1", "-r", "0", "-Oqv", &self.address()]);
        let output = snmpget.arg(format!("{OUTLET}.{outlet}")).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        output.status.success().then_some(said)
    }

    fn set(&self, outlet: u32, value: &str) {
        let mut snmpset = Command::new("snmpset");
        snmpset.args(["-v1", "-c", COMMUNITY, &self.address(), &format!("{OUTLET}.{outlet}"), "i", value]);
        assert!(snmpset.output().unwrap().status.success());
    }

    /// All three.
    fn outlets(&self) -> String {
        (1..=3).map(|outlet| self.get(outlet).unwrap()).collect()
    }
}

impl Drop for Apc {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What tests/needs has installed from PyPI.
fn tools() -> PathBuf {
    let cache = std::env::var("ELISANDRA_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/elisandra", std::env::var("HOME").unwrap()));
    Path::new(&cache).join("python/bin")
}

async fn until(client: &Client, what: &str, so: impl Fn(&Fleet) -> bool) {
    let mut changed = client.site.app.core.watch_fleet();
    let wait = changed.wait_for(|head| so(&head.fleet));
    assert!(tokio::time::timeout(Duration::from_secs(120), wait).await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_bmc_is_gone_the_strip_cuts_the_host_off_and_its_vm_runs_elsewhere() {
    let apc = Apc::start();
    let client = client::logged_in().await;
    let core = &client.site.app.core;
    let [one, two] = [example::host(core, example::mac(1)).await, example::host(core, example::mac(2)).await];
    let path = format!("/api/v1/machines/{one}/strip");
    let strip = |outlets: Value, community: &str| {
        json!({
            "agent": "fence_apc_snmp",
            "address": apc.address(),
            "outlets": outlets,
            "password": community,
        })
    };

    // What does not fit is seen when it is set, and not when a host hangs.
    let unknown = client.put(&path, strip(json!(["1", "9"]), COMMUNITY)).await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", unknown.text);
    assert!(unknown.text.contains("fence_apc_snmp could not speak to the power strip"), "{}", unknown.text);
    apc.set(3, "2");
    let wrong = client.put(&path, strip(json!(["1", "3"]), COMMUNITY)).await;
    assert!(wrong.text.contains("outlet 3 of the power strip at"), "{}", wrong.text);
    assert!(wrong.text.contains("says that it is off; is host-1 plugged into another one"), "{}", wrong.text);
    assert_eq!(client.site.app.vault.names().await.unwrap(), Vec::<String>::new());
    client.put(&path, strip(json!(["1", "2"]), COMMUNITY)).await.of(StatusCode::OK);
    let shared = client.put(&format!("/api/v1/machines/{two}/strip"), strip(json!(["2"]), COMMUNITY)).await;
    assert_eq!(shared.status, StatusCode::CONFLICT, "{}", shared.text);

    let fake = Fake::of_machine(1).await;
    let given = json!({ "kind": "redfish", "address": fake.address, "user": USER, "password": PASSWORD });
    client.put(&format!("/api/v1/machines/{one}/bmc"), given).await.of(StatusCode::OK);
    client.post(&format!("/api/v1/hosts/{two}/drain"), json!({})).await.of(StatusCode::OK);
    let vm = json!({ "name": "web", "memory_mib": 512, "vcpus": 1, "disk_gib": 4, "recover": "anew" });
    client.post("/api/v1/vms", vm).await.of(StatusCode::CREATED);
    client.post(&format!("/api/v1/hosts/{two}/undrain"), json!({})).await.of(StatusCode::OK);

    // Its plug is pulled: the BMC is gone with it, and a timeout is no proof.
    drop(fake);
    client.post(&format!("/api/v1/machines/{one}/fence"), json!({})).await.of(StatusCode::OK);
    until(&client, "fenced", |fleet| fleet::power::off_since(fleet, one).is_some()).await;
    assert_eq!(apc.outlets(), "222", "both are off, as the strip says itself");
    until(&client, "moved", |fleet| fleet.vms.values().all(|vm| vm.host == two)).await;
    let timeline = client.get(&format!("/api/v1/machines/{one}/timeline")).await.text;
    for sentence in [
        "Its power could not be switched: the BMC at",
        "Its power strip is to switch its outlets off",
        "Fenced, it is off: outlet 1 of the power strip at",
    ] {
        assert!(timeline.contains(sentence), "{sentence}: {timeline}");
    }
    let shown = client.get(&format!("/api/v1/machines/{one}")).await.of(StatusCode::OK);
    assert_eq!((&shown["outlets"]["is"], &shown["outlets"]["cut"]), (&json!("off"), &json!(true)));

    client.post(&format!("/api/v1/machines/{one}/unfence"), json!({})).await.of(StatusCode::OK);
    until(&client, "outlets on", |fleet| fleet.machines[&one].power.cut.is_none()).await;
    assert_eq!(apc.outlets(), "112");
    for path in ["machines", "state", "log", "history", "document", "timeline/site"] {
        let text = client.get(&format!("/api/v1/{path}")).await.text;
        assert!(!text.contains("planted"), "{path}: {text}");
    }

    // What is forgotten is forgotten with its login.
    client.post(&format!("/api/v1/machines/{one}/cancel"), json!({})).await.of(StatusCode::OK);
    client.delete(&path).await.of(StatusCode::OK);
    for _ in 0..100 {
        let names = client.site.app.vault.names().await.unwrap();
        if names.iter().all(|name| !name.starts_with("strip ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the login is kept for a strip that is not known any more");
}
