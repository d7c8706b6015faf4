//! BMCs as third parties emulate them: sushy-emulator (Redfish, from OpenStack) and ipmi_sim (IPMI, from OpenIPMI), and
//! ClusterLabs' fence agents beside us, who have to see what we did.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use appliance::bmc::{BmcError, Bmcs, Endpoint, Kind, Login, Power, Settings, SwitchedOn};
use appliance::vault::Secret;
use fleet::Timestamp;
use fleet::wire::BmcAccount;
use node::account::make;
use sha2::{Digest as _, Sha256};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const USER: &str = "admin";
// Each test looks for its own in what all processes were told.
const OF_SUSHY: &str = "planted-sushy";
const OF_IPMI_SIM: &str = "planted-ipmi";
const UUID: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";

fn login(password: &str) -> Login {
    Login { user: USER.to_owned(), password: Secret::new(password) }
}

fn options<const N: usize>(options: [(&str, &str); N]) -> BTreeMap<String, String> {
    options.into_iter().map(|(option, value)| (option.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn sushy_is_switched_off_and_on_and_a_fence_agent_sees_it() {
    let sushy = Sushy::start();
    let argv = Argv::watch();
    let (bmcs, login) = (Bmcs::new(Settings::default()), login(OF_SUSHY));
    let endpoint = Endpoint {
        kind: Kind::Redfish,
        address: sushy.address(),
        pin: Some(sushy.certificate.clone()),
        system: Some(UUID.to_owned()),
    };
    let agent = Endpoint {
        kind: Kind::Agent("fence_redfish".into(), options([("ssl_insecure", "1"), ("plug", UUID)])),
        ..endpoint.clone()
    };
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);
    let by_agent = bmcs.at(&agent, Some(&login), NOW);

    let identity = bmc.identify().await.unwrap();
    assert_eq!(identity.uuid.as_deref(), Some(UUID));
    assert_eq!(identity.vendor.as_deref(), Some("Sushy Emulator"));
    assert_eq!(identity.certificate.as_ref(), Some(&sushy.certificate));
    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Proven));
    assert_eq!(by_agent.power().await, Ok(Power::On));
    bmc.switch_off().await.unwrap();
    assert_eq!(by_agent.power().await, Ok(Power::Off));
    bmc.switch_off().await.unwrap();
    assert_eq!(bmc.cycle().await, Ok(SwitchedOn::Proven));
    bmc.boot_from_network_once(true).await.unwrap();
    bmc.light(true).await.unwrap();
    bmc.light(false).await.unwrap();
    by_agent.switch_off().await.unwrap();
    assert_eq!(bmc.power().await, Ok(Power::Off));
    assert_eq!(by_agent.switch_on().await, Ok(SwitchedOn::Proven));
    assert_eq!(bmc.power().await, Ok(Power::On));

    let wrong = Login { password: Secret::new("planted-sushy-not"), ..login.clone() };
    let error = bmcs.at(&endpoint, Some(&wrong), NOW).power().await.unwrap_err();
    assert!(matches!(error, BmcError::Refused { .. }), "{error}");
    argv.never_had(OF_SUSHY, "fence_redfish");
}

fn of_ipmi_sim(sim: &IpmiSim) -> Endpoint {
    Endpoint {
        kind: Kind::Agent("fence_ipmilan".into(), options([("lanplus", "1"), ("cipher", "3")])),
        address: format!("127.0.0.1:{}", sim.port),
        pin: None,
        system: None,
    }
}

#[tokio::test]
async fn ipmi_sim_is_switched_off_and_on_and_a_fence_agent_sees_it() {
    let sim = IpmiSim::start();
    let argv = Argv::watch();
    let (bmcs, login) = (Bmcs::new(Settings::default()), login(OF_IPMI_SIM));
    let endpoint = of_ipmi_sim(&sim);
    let bmc = bmcs.at(&endpoint, Some(&login), NOW);

    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Proven));
    let identity = bmc.identify().await.unwrap();
    assert_eq!((identity.power, identity.uuid.as_deref()), (Some(Power::On), Some(UUID)));
    bmc.switch_off().await.unwrap();
    assert_eq!(sim.read("power"), "0");
    assert_eq!(bmc.power().await, Ok(Power::Off));
    bmc.switch_off().await.unwrap();
    assert_eq!(bmc.cycle().await, Ok(SwitchedOn::Proven));
    assert_eq!(sim.read("power"), "1");
    bmc.boot_from_network_once(true).await.unwrap();
    assert_eq!(sim.read("boot"), "pxe");
    bmc.light(true).await.unwrap();
    assert_eq!(sim.read("identify"), "0 1");
    bmc.light(false).await.unwrap();
    assert_eq!(sim.read("identify"), "0 0");
    argv.never_had(OF_IPMI_SIM, "ipmitool");
    // The agent itself tells ipmitool the password as an argument: it is run after the watch has ended.
    assert_eq!(sim.ask_fence_ipmilan("status"), 0);
    assert_eq!(sim.ask_fence_ipmilan("off"), 0);
    assert_eq!(bmc.power().await, Ok(Power::Off));
    assert_eq!(sim.ask_fence_ipmilan("status"), 2);

    for login in [
        Login { password: Secret::new("planted-ipmi-not"), ..login.clone() },
        Login { user: "nobody".into(), ..login.clone() },
    ] {
        let error = bmcs.at(&endpoint, Some(&login), NOW).power().await.unwrap_err();
        assert!(matches!(error, BmcError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains("planted-"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_serial_line_of_ipmi_sim_is_typed_into_and_let_go() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let sim = IpmiSim::start();
    let argv = Argv::watch();
    let (bmcs, known) = (Bmcs::new(Settings::default()), login(OF_IPMI_SIM));
    let endpoint = of_ipmi_sim(&sim);
    let wrong = Login { password: Secret::new("planted-ipmi-not"), ..known.clone() };
    let error = bmcs.at(&endpoint, Some(&wrong), NOW).serial().await.err().unwrap();
    assert!(matches!(error, BmcError::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("planted-"), "{error}");

    let bmc = bmcs.at(&endpoint, Some(&known), NOW);
    let mut line = bmc.serial().await.unwrap();
    // ipmitool's own way out is a line like another.
    let typed = b"~.login\r";
    line.write_all(typed).await.unwrap();
    let (mut machine, _) = tokio::task::block_in_place(|| sim.serial.accept()).unwrap();
    machine.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut read = vec![0; typed.len()];
    tokio::task::block_in_place(|| std::io::Read::read_exact(&mut machine, &mut read)).unwrap();
    assert_eq!(read, typed);
    machine.write_all(b"Password: ").unwrap();
    let mut shown = [0; 10];
    let read = tokio::time::timeout(Duration::from_secs(30), line.read_exact(&mut shown)).await;
    read.expect("it is not shown").unwrap();
    assert_eq!(&shown, b"Password: ");
    // The BMC is asked other things meanwhile.
    bmc.power().await.unwrap();
    drop(line);
    argv.never_had(OF_IPMI_SIM, "sol activate");
    // Nothing of it is left: no process speaks to this BMC any more.
    let port = sim.port.to_string();
    let until = Instant::now() + Duration::from_secs(20);
    while running().iter().any(|argv| argv.contains("sol activate") && argv.contains(&port)) {
        assert!(Instant::now() < until, "ipmitool is left behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a host does from inside, sent by the network here: the same commands, to the same controller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipmi_sim_takes_the_account_that_is_made_there() {
    let sim = IpmiSim::start();
    let account = BmcAccount { user: "elisandra".into(), password: "eE1-0123456789ab".into() };
    let mine = Login { user: account.user.clone(), password: Secret::new(account.password.as_str()) };
    let (bmcs, endpoint) = (Bmcs::new(Settings::default()), of_ipmi_sim(&sim));
    let error = bmcs.at(&endpoint, Some(&mine), NOW).power().await.unwrap_err();
    assert!(matches!(error, BmcError::Refused { .. }), "{error}");
    for _ in 0..2 {
        tokio::task::block_in_place(|| {
            make(&mut |function, command, data| sim.ask(function, command, data), 1, &account)
        })
        .unwrap();
    }
    let later = Timestamp(NOW.0 + 3_600_000);
    let bmc = bmcs.at(&endpoint, Some(&mine), later);
    assert_eq!(bmc.switch_on().await, Ok(SwitchedOn::Proven));
    bmc.switch_off().await.unwrap();
    assert_eq!(sim.read("power"), "0");
    // Whoever was there before still is, and only one place was taken.
    assert_eq!(bmcs.at(&endpoint, Some(&login(OF_IPMI_SIM)), later).power().await, Ok(Power::Off));
    let names: Vec<_> = (2..=4).filter_map(|user| sim.ask(6, 0x46, &[user])).collect();
    let ours = names.iter().filter(|name| name.starts_with(b"elisandra\0")).count();
    assert_eq!(ours, 1, "{names:?}");
}

/// The arguments of all processes.
fn running() -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    // Not every entry is a process, and some have ended meanwhile.
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|argv| String::from_utf8_lossy(&argv).replace('\0', " "))
        .collect()
}

/// Nobody answers on the port: it is an error that tells, neither off nor a refused login.
#[tokio::test]
async fn where_no_bmc_answers_nothing_is_off() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint {
        kind: Kind::Agent("fence_ipmilan".into(), options([("lanplus", "1")])),
        address: silent.local_addr().unwrap().to_string(),
        pin: None,
        system: None,
    };
    let (bmcs, login) = (Bmcs::new(Settings::default()), login(OF_IPMI_SIM));
    let error = bmcs.at(&endpoint, Some(&login), NOW).switch_off().await.unwrap_err();
    assert!(matches!(error, BmcError::Silent { .. } | BmcError::Failed { .. }), "{error}");
}

struct Sushy {
    folder: tempfile::TempDir,
    port: u16,
    certificate: String,
    process: Child,
}

impl Sushy {
    fn start() -> Sushy {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("key.pem", &key.serialize_pem());
        write("certificate.pem", &certificate.pem());
        write("logins", &format!("{USER}:{}\n", bcrypt(OF_SUSHY)));
        write(
            "sushy.conf",
            &format!(
                "SUSHY_EMULATOR_AUTH_FILE = '{0}/logins'\nSUSHY_EMULATOR_STATE_DIR = '{0}'\n",
                folder.path().display()
            ),
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(tools().join("sushy-emulator"))
            .args(["--fake", "--interface", "127.0.0.1", "--port", &port.to_string()])
            .args(["--config", "sushy.conf", "--ssl-certificate", "certificate.pem", "--ssl-key", "key.pem"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let certificate = hex::encode(Sha256::digest(certificate.der()));
        let sushy = Sushy { folder, port, certificate, process };
        let until = Instant::now() + Duration::from_secs(120);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(sushy.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "sushy-emulator does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        sushy
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Sushy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bcrypt(password: &str) -> String {
    let program =
        "import bcrypt, sys; print(bcrypt.hashpw(sys.stdin.read().encode(), bcrypt.gensalt(4)).decode())";
    let mut python = Command::new(tools().join("python"))
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What tests/needs has installed from PyPI.
fn tools() -> PathBuf {
    let cache = std::env::var("ELISANDRA_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/elisandra", std::env::var("HOME").unwrap()));
    Path::new(&cache).join("python/bin")
}

struct IpmiSim {
    folder: tempfile::TempDir,
    port: u16,
    /// Where the machine's serial line is.
    serial: TcpListener,
    process: Child,
}

/// Keeps each of the chassis' parameters in a file of its name.
const CHASSIS: &str = r#"#!/bin/bash
action=$1
shift
if [ "$action" = set ]; then
    echo "${@:2}" >"$1"
    exit
fi
for parameter; do
    echo "$parameter:$(cat "$parameter" 2>/dev/null || echo 0)"
done
"#;

impl IpmiSim {
    fn start() -> IpmiSim {
        let folder = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let serial = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = serial.local_addr().unwrap().port();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        // Without one it does not speak IPMI 2.0.
        let guid = UUID.replace('-', "");
        write("chassis", CHASSIS);
        std::fs::set_permissions(folder.path().join("chassis"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        write(
            "lan.conf",
            &format!(
                "name \"bmc\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n\
                 allowed_auths_admin md5\nguid {guid}\nendlan\nchassis_control \"./chassis\"\n\
                 sol \"tcp:127.0.0.1:{line}\" 115200\n\
                 user 1 false \"\" \"\" user 10\nuser 2 true \"{USER}\" \"{OF_IPMI_SIM}\" admin 10\n"
            ),
        );
        write(
            "bmc.emu",
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n",
        );
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "ipmi_sim"])
            .args(["-n", "-c", "lan.conf", "-f", "bmc.emu", "-s", "state"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let sim = IpmiSim { folder, port, serial, process };
        let until = Instant::now() + Duration::from_secs(60);
        while !sim.is_heard() {
            let log = std::fs::read_to_string(sim.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "ipmi_sim does not answer: {log}");
        }
        sim
    }

    /// Whether it answers a presence ping (ASF 2.0, 3.2.4.2).
    fn is_heard(&self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let ping = [6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 0, 0, 0];
        // Nobody listens at first.
        let sent = socket.connect(("127.0.0.1", self.port)).and_then(|()| socket.send(&ping));
        let heard = sent.and_then(|_| socket.recv(&mut [0; 64])).is_ok();
        if !heard {
            std::thread::sleep(Duration::from_millis(20));
        }
        heard
    }

    fn read(&self, parameter: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(parameter)).unwrap_or_default().trim().to_owned()
    }

    /// One question and its answer, by ipmitool.
    fn ask(&self, function: u8, command: u8, data: &[u8]) -> Option<Vec<u8>> {
        let bytes =
            [function, command].into_iter().chain(data.iter().copied()).map(|byte| format!("{byte:#04x}"));
        let output = Command::new("ipmitool")
            .args(["-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", &self.port.to_string()])
            // As an argument, the watches of other tests would see it.
            .env("IPMI_PASSWORD", OF_IPMI_SIM)
            .args(["-U", USER, "-E", "raw"])
            .args(bytes)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        output
            .status
            .success()
            .then(|| said.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
    }

    fn ask_fence_ipmilan(&self, action: &str) -> i32 {
        let mut agent = Command::new("/usr/sbin/fence_ipmilan").stdin(Stdio::piped()).spawn().unwrap();
        let port = self.port;
        let input = format!(
            "action={action}\nip=127.0.0.1\nipport={port}\nlanplus=1\ncipher=3\nusername={USER}\npassword={OF_IPMI_SIM}\n"
        );
        agent.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        agent.wait().unwrap().code().unwrap()
    }
}

impl Drop for IpmiSim {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the arguments of all processes, again and again.
struct Argv {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Argv {
    fn watch() -> Argv {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = std::collections::BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    // Not every entry is a process, and some have ended meanwhile.
                    if let Ok(argv) = std::fs::read(entry.path().join("cmdline")) {
                        seen.insert(String::from_utf8_lossy(&argv).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen.into_iter().collect()
        });
        Argv { stop, thread }
    }

    /// `program` shows that there was something to see.
    fn never_had(self, secret: &str, program: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        assert!(seen.iter().any(|argv| argv.contains(program)), "{program} was not seen");
        let told: Vec<_> = seen.iter().filter(|argv| argv.contains(secret)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}
