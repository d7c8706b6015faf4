//! Machines that ask for addresses by broadcast: DISCOVER, OFFER, REQUEST, ACK, each machine once.

use std::collections::VecDeque;
use std::fmt;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::lan;
use crate::namespace::Machine;
use crate::packet::{self, Offered, mac, patience, question};

#[derive(Debug, Clone, Copy)]
pub enum Pace {
    AllAtOnce,
    /// So many begin in a second, whatever comes of them.
    Rate(u32),
    /// The next begins when one of so many is done.
    Window(usize),
}

#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub clients: u64,
    pub pace: Pace,
    /// A packet without an answer is sent again after about 1 s, 2 s, 4 s; not all at the same moment (RFC 2131
    /// section 4.1).
    pub retry: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub asked: u64,
    pub done: u64,
    /// From the first DISCOVER to the last ACK.
    pub secs: f64,
    /// What the clients meant to take to ask, and what they took.
    pub meant_secs: f64,
    pub asking_secs: f64,
    pub median_ms: f64,
    pub p99_ms: f64,
}

impl Done {
    pub fn lost(&self) -> f64 {
        1.0 - self.done as f64 / self.asked as f64
    }

    /// Whether the clients kept their own pace.
    pub fn in_time(&self) -> bool {
        self.asking_secs < self.meant_secs * 1.05 + 0.1
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, done, secs, median_ms, p99_ms, .. } = self;
        let lost = self.lost() * 100.0;
        write!(
            f,
            "{done} of {asked} in {secs:.2} s, {lost:.2} % lost; an exchange {median_ms:.1} ms (median), {p99_ms:.1} ms (p99)"
        )
    }
}

/// Runs the clients in the other namespace, as a process of their own.
pub fn in_namespace(machine: &Machine, wanted: &Wanted) -> Done {
    let (pace, number) = match wanted.pace {
        Pace::AllAtOnce => ("at-once", 0),
        Pace::Rate(rate) => ("rate", rate as usize),
        Pace::Window(window) => ("window", window),
    };
    let output = lan::in_namespace(machine)
        .args(["clients", &wanted.clients.to_string(), pace, &number.to_string(), &wanted.retry.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [asked, done, secs, meant_secs, asking_secs, median_ms, p99_ms] = numbers[..] else {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Done { asked: asked as u64, done: done as u64, secs, meant_secs, asking_secs, median_ms, p99_ms }
}

/// The process in the other namespace.
pub fn main(words: &[String]) {
    let clients: u64 = words[0].parse().unwrap();
    let number: usize = words[2].parse().unwrap();
    let pace = match words[1].as_str() {
        "at-once" => Pace::AllAtOnce,
        "rate" => Pace::Rate(number as u32),
        _ => Pace::Window(number),
    };
    let done = ask(&Wanted { clients, pace, retry: words[3] == "true" });
    let Done { asked, done, secs, meant_secs, asking_secs, median_ms, p99_ms } = done;
    println!("{asked} {done} {secs} {meant_secs} {asking_secs} {median_ms} {p99_ms}");
}

#[derive(Clone, Copy)]
struct Client {
    begun: Instant,
    /// The address and server that were offered.
    offered: Option<Offered>,
    sent: Instant,
    tries: u32,
    done: bool,
}

fn ask(wanted: &Wanted) -> Done {
    let socket = packet::socket();
    let begun = Instant::now();
    let mut clients: Vec<Client> = Vec::new();
    let mut times = Vec::new();
    let mut waiting: VecDeque<usize> = VecDeque::new();
    let (mut last, mut asking) = (begun, Duration::ZERO);
    let mut buffer = [0; 2048];
    let meant = match wanted.pace {
        Pace::Rate(rate) => wanted.clients as f64 / f64::from(rate),
        Pace::AllAtOnce | Pace::Window(_) => 0.0,
    };
    while (times.len() as u64) < wanted.clients {
        let now = Instant::now();
        let due = match wanted.pace {
            Pace::AllAtOnce => wanted.clients,
            Pace::Rate(rate) => (now.duration_since(begun).as_secs_f64() * f64::from(rate)) as u64,
            Pace::Window(window) => (times.len() + window) as u64,
        };
        let mut idle = true;
        let mut sent = 0;
        while (clients.len() as u64) < due.min(wanted.clients) && sent < 32 {
            let number = clients.len();
            clients.push(Client { begun: now, offered: None, sent: now, tries: 0, done: false });
            waiting.push_back(number);
            send(&socket, number, None);
            asking = begun.elapsed();
            sent += 1;
            idle = false;
        }
        for _ in 0..64 {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
            idle = false;
            let Some(answer) = packet::answer(&buffer[..length]) else { continue };
            let number = answer.number as usize;
            let Some(client) = clients.get_mut(number) else { continue };
            match answer.kind {
                2 if client.offered.is_none() => {
                    client.offered = Some((answer.address, answer.server));
                    (client.sent, client.tries) = (Instant::now(), 0);
                    send(&socket, number, client.offered);
                }
                5 if !client.done => {
                    client.done = true;
                    last = Instant::now();
                    times.push(last.duration_since(client.begun));
                }
                6 if !client.done => {
                    client.offered = None;
                    send(&socket, number, None);
                }
                _ => {}
            }
        }
        if wanted.retry {
            for _ in 0..waiting.len().min(64) {
                let Some(number) = waiting.pop_front() else { break };
                let client = &mut clients[number];
                if client.done {
                    continue;
                }
                if client.sent.elapsed() > patience(number as u32, client.tries) {
                    client.tries += 1;
                    client.sent = Instant::now();
                    send(&socket, number, client.offered);
                    idle = false;
                }
                waiting.push_back(number);
            }
        }
        let over = clients.len() as u64 == wanted.clients;
        if over
            && now.duration_since(last.max(begun + asking))
                > Duration::from_secs(if wanted.retry { 20 } else { 2 })
        {
            break;
        }
        if idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    times.sort();
    let at = |part: f64| {
        times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    Done {
        asked: wanted.clients,
        done: times.len() as u64,
        secs: last.duration_since(begun).as_secs_f64(),
        meant_secs: meant,
        asking_secs: if meant > 0.0 { asking.as_secs_f64() } else { 0.0 },
        median_ms: at(0.5),
        p99_ms: at(0.99),
    }
}

fn send(socket: &UdpSocket, number: usize, offered: Option<Offered>) {
    let number = number as u32;
    packet::send(socket, &question(number, mac(number), offered, &[]));
}
