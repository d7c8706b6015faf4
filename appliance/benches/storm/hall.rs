//! All machines and the person, as a process in the clients' namespace.

use std::fmt;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::lan;
use crate::machine::{Firmware, Identity, Lan, Machine, STEPS};
use crate::namespace::run;
use crate::packet::{self, mac};
use crate::person::Person;
use crate::servers::Running;

/// Within so long, all are switched on.
const SWITCHED_ON: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(180);

/// What came of it; seconds count from the moment when the first machine is switched on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    pub state_secs: f64,
    pub page_secs: f64,
    median_secs: f64,
    p99_secs: f64,
    server_secs: f64,
    hall_secs: f64,
    /// Median and p99 of each step, in seconds.
    steps: Vec<(f64, f64)>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { state_secs, page_secs, median_secs, p99_secs, server_secs, hall_secs, steps } = self;
        write!(
            f,
            "all found after {state_secs:.2} s by the REST API, {page_secs:.2} s on the page; a machine takes \
             {median_secs:.2} s (median), {p99_secs:.2} s (p99); processor: server {server_secs:.1} s, machines and \
             person {hall_secs:.1} s; steps (median, p99)"
        )?;
        for (name, (median, p99)) in STEPS.iter().zip(steps) {
            write!(f, " {name} {median:.2} {p99:.2}")?;
        }
        Ok(())
    }
}

pub fn in_namespace(
    cable: &crate::namespace::Machine,
    firmware: Firmware,
    machines: u32,
    server: &Running,
) -> Done {
    // A screen shows the code to whoever stands before it.
    let screen = std::fs::read_to_string(server.folder().join("run/console")).unwrap();
    let code = screen.lines().find_map(|line| line.strip_prefix("One-time code ")?.split_whitespace().next());
    let output = lan::in_namespace(cable)
        .args([
            "hall",
            &format!("{firmware:?}"),
            &machines.to_string(),
            code.unwrap(),
            &server.id().to_string(),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let done = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    done.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The process in the other namespace.
pub fn main(words: &[String]) {
    let firmware = if words[0] == "Uefi" { Firmware::Uefi } else { Firmware::Bios };
    let machines = words[1].parse().unwrap();
    let server = words[3].parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(storm(firmware, machines, &words[2], server)).unwrap();
    println!("{}", serde_json::to_string(&done).unwrap());
    // What still runs has nothing to say.
    std::process::exit(0);
}

async fn storm(firmware: Firmware, number: u32, code: &str, server: u32) -> anyhow::Result<Done> {
    let person = Person::log_in(code).await?;
    let (addresses, wanted) = mpsc::unbounded_channel();
    own(wanted);
    let lan = Arc::new(Lan { dhcp: packet::socket(), addresses });
    let (steps, mut taken) = mpsc::unbounded_channel();
    let mut mailboxes = Vec::new();
    let mut machines: Vec<Machine> = (0..number)
        .map(|number| {
            let (mailbox, answers) = mpsc::unbounded_channel();
            mailboxes.push(mailbox);
            let (lan, steps) = (Arc::clone(&lan), steps.clone());
            Machine { number, firmware, identity: Identity::generate(), answers, lan, steps }
        })
        .collect();
    drop(steps);
    let hearing = tokio::net::UdpSocket::from_std(lan.dhcp.try_clone()?)?;
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok(length) = hearing.recv(&mut buffer).await {
            let Some(answer) = packet::answer(&buffer[..length]) else { continue };
            if let Some(mailbox) = mailboxes.get((answer.number & 0xff_ffff) as usize) {
                // A machine that is through with DHCP hears no more.
                let _ = mailbox.send(answer);
            }
        }
    });

    let count = number as usize;
    let page = tokio::spawn({
        let person = person.clone();
        async move { person.page_has(count).await }
    });
    let state = tokio::spawn({
        let person = person.clone();
        async move { person.state_has(count).await }
    });
    // The page is open before anything happens.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = (processor_secs(server), processor_secs(std::process::id()));
    let (begun, clock) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
    let mut running = JoinSet::new();
    let power_on = |machine: u32| SWITCHED_ON * machine / number;
    for machine in machines.drain(..) {
        let at = begun + power_on(machine.number);
        running.spawn(async move {
            tokio::time::sleep_until(at).await;
            let number = machine.number;
            machine.run().await.map_err(|error| error.context(format!("machine {number}")))
        });
    }
    let both = async { anyhow::Ok((page.await??, state.await??)) };
    let (page, state) = tokio::select! {
        both = both => both?,
        failed = running.join_next() => anyhow::bail!("{failed:?}"),
        () = tokio::time::sleep(LIMIT) => {
            anyhow::bail!("{} of {number} machines are found after {LIMIT:?}", person.since().await?.len())
        }
    };
    let after = (processor_secs(server), processor_secs(std::process::id()));

    let since = person.since().await?;
    let took = (0..number).map(|number| {
        let found = since.get(&fleet::Mac(mac(number)).to_string()).copied().unwrap_or(u64::MAX);
        let on = clock + power_on(number);
        Duration::from_millis(found).saturating_sub(on).as_secs_f64()
    });
    let (median_secs, p99_secs) = spread(took.collect());
    let mut each = vec![Vec::new(); STEPS.len()];
    while let Ok((step, took)) = taken.try_recv() {
        each[step].push(took.as_secs_f64());
    }
    Ok(Done {
        state_secs: (state - begun).as_secs_f64(),
        page_secs: (page - begun).as_secs_f64(),
        median_secs,
        p99_secs,
        server_secs: after.0 - before.0,
        hall_secs: after.1 - before.1,
        steps: each.into_iter().map(spread).collect(),
    })
}

/// Marks what this namespace owns for the machines.
const OWNED: &str = "proto 77";

/// Gives addresses to this namespace, so that it answers ARP for those that machines have, and for no others.
fn own(mut wanted: mpsc::UnboundedReceiver<Ipv4Addr>) {
    // The machines of the run before are off.
    run(&format!("ip route flush table local {OWNED}"));
    let ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut input = ip.expect("ip (of iproute2) runs").stdin.take().expect("it was piped");
    std::thread::spawn(move || {
        while let Some(address) = wanted.blocking_recv() {
            let line = format!("route replace local {address}/32 dev eth0 table local {OWNED}\n");
            input.write_all(line.as_bytes()).unwrap();
        }
    });
}

/// Median and p99.
fn spread(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
    (at(50), at(99))
}

fn processor_secs(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
