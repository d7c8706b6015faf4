//! A server's network namespace, and a cable to another one for its clients.

use std::process::Command;

use crate::namespace::{Machine, run};
use crate::servers;

/// Set for the process that has the namespace.
const INSIDE: &str = "ELISANDRA_BENCH_NAMESPACE";

/// Starts this program again in a namespace of its own; returns in there.
pub fn enter(words: &[String]) {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let again = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(words)
        .env(INSIDE, "1")
        .status()
        .expect("unshare (of util-linux) runs");
    std::process::exit(again.code().unwrap_or(1));
}

/// `lan0` here, `eth0` in the clients' namespace.
pub fn lay_cable() -> Machine {
    run("ip link set lo up");
    run("ip link add lan0 type veth peer name eth0 address 52:54:00:ff:ff:fe");
    run("ip link set lan0 up");
    let machine = Machine::take_eth0();
    run(&format!("ip addr add {}/{} dev lan0", servers::SERVER, servers::PREFIX));
    machine.run(&format!("ip addr add {}/{} dev eth0", servers::CLIENTS, servers::PREFIX));
    machine
}

/// This program as a process in the clients' namespace.
pub fn in_namespace(machine: &Machine) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &machine.id().to_string(), "-n"]).arg(std::env::current_exe().unwrap());
    command
}

pub fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
}
