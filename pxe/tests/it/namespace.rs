//! A LAN of one cable inside network namespaces, so that tests may use port 67 and raw sockets and
//! nothing of it touches the machine's network.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::{
    env,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Runs `body` in a process of its own with an empty network; `test` is the calling test's name, with its module.
///
/// The test's binary starts itself again under unshare(1), which works for root and, where user
/// namespaces are allowed, for everybody.
pub fn inside<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    const MARK: &str = "PXE_TEST_NAMESPACE";
    // By a wrong name no test would run, and all would seem well.
    const ENDED: &str = "the body inside the network namespace came to its end";
    if env::var_os(MARK).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body());
        println!("{ENDED}");
        return;
    }
    let namespaces: &[&str] =
        if nix::unistd::geteuid().is_root() { &["--net"] } else { &["--net", "--user", "--map-root-user"] };
    let mut again = Command::new("unshare");
    again.args(namespaces).arg(env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(MARK, "1");
    let output = again.output().expect("unshare (of util-linux) runs");
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(ENDED),
        "{test} failed inside its network namespace, or there can be none (user namespaces not allowed?)"
    );
}

/// Runs a command to its end, which has to be a good one.
pub fn run(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `lan0` here and `eth0` at the other end of the cable, in this namespace too.
pub fn cable(mac: &str) {
    run("ip link set lo up");
    run(&format!("ip link add lan0 type veth peer name eth0 address {mac}"));
    run("ip link set lan0 up");
    run("ip link set eth0 up");
}

/// A switch with machines on it, each with an interface by the name of its place, `eth0` and on, and a hardware address
/// that ends with it. This namespace is on it by `lan0`.
pub fn switch(machines: u8) -> Vec<Machine> {
    run("ip link set lo up");
    run("ip link add lan0 type bridge");
    run("ip link set lan0 up");
    let plug = |place: u8| {
        run(&format!(
            "ip link add port{place} type veth peer name eth{place} address 52:54:00:aa:bb:1{place}"
        ));
        run(&format!("ip link set port{place} master lan0 up"));
        let machine = Machine::empty();
        machine.take(&format!("eth{place}"));
        machine.run("ip link set lo up");
        machine
    };
    (0..machines).map(plug).collect()
}

/// Starts a program here, which ends with what is returned.
pub fn start(command: &str) -> Process {
    let words: Vec<&str> = command.split_whitespace().collect();
    let child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    Process(child)
}

/// The figures of this name in what perfdhcp says: one for each kind of exchange, in their order.
pub fn figures(said: &str, name: &str) -> Vec<u32> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(name));
    lines.filter_map(|word| word.trim().parse().ok()).collect()
}

/// An interface's hardware address.
pub fn mac(interface: &str) -> String {
    let link = |entry: nix::ifaddrs::InterfaceAddress| entry.address?.as_link_addr()?.addr();
    let mac =
        nix::ifaddrs::getifaddrs().unwrap().filter(|entry| entry.interface_name == interface).find_map(link);
    pxe::MacAddr(mac.unwrap()).to_string()
}

/// A namespace of its own for `eth0`: a machine.
pub struct Machine(Child);

impl Machine {
    pub fn take_eth0() -> Self {
        let machine = Self::empty();
        machine.take("eth0");
        machine
    }

    /// Without any interface yet.
    pub fn empty() -> Self {
        let child =
            Command::new("unshare").args(["--net", "sleep", "3600"]).stdout(Stdio::null()).spawn().unwrap();
        let machine = Self(child);
        // The process has its namespace a moment after it has begun.
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let begun = Instant::now();
        while std::fs::read_link(format!("/proc/{}/ns/net", machine.0.id())).is_ok_and(|its| its == ours) {
            assert!(begun.elapsed() < Duration::from_secs(10), "unshare makes no namespace");
            thread::sleep(Duration::from_millis(5));
        }
        machine
    }

    /// Gives it an interface of this namespace.
    pub fn take(&self, interface: &str) {
        run(&format!("ip link set {interface} netns {}", self.0.id()));
        self.run(&format!("ip link set {interface} up"));
    }

    /// Starts a command as this machine, which ends with what is returned.
    pub fn start(&self, command: &str) -> Process {
        start(&format!("nsenter -t {} -n {command}", self.id()))
    }

    /// Of a process in its namespace.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Runs a command as this machine.
    pub fn output(&self, command: &str) -> Output {
        Command::new("nsenter")
            .args(["-t", &self.id().to_string(), "-n"])
            .args(command.split_whitespace())
            .output()
            .unwrap()
    }

    pub fn run(&self, command: &str) {
        let output = self.output(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A program that runs beside a test.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
