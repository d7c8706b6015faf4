//! Machines that ask for addresses by broadcast: DISCOVER, OFFER, REQUEST, ACK, each machine once.

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::namespace::Machine;

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
    let output = Command::new("nsenter")
        .args(["-t", &machine.id().to_string(), "-n"])
        .arg(std::env::current_exe().unwrap())
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
    offered: Option<([u8; 4], [u8; 4])>,
    sent: Instant,
    tries: u32,
    done: bool,
}

fn ask(wanted: &Wanted) -> Done {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.set_broadcast(true).unwrap();
    // Root may have more than everybody; a thousand answers come at the same moment.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20));
    socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68))).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = UdpSocket::from(socket);

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
            let Some((number, kind, address, server)) = read(&buffer[..length]) else { continue };
            let Some(client) = clients.get_mut(number) else { continue };
            match kind {
                2 if client.offered.is_none() => {
                    client.offered = Some((address, server));
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
                let spread = number as u64 * 7919 % 1000;
                let patience = Duration::from_millis((1000 << client.tries.min(2)) - 500 + spread);
                if client.sent.elapsed() > patience {
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

fn send(socket: &UdpSocket, number: usize, offered: Option<([u8; 4], [u8; 4])>) {
    let mut packet = [0; 300];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    let number = number as u32;
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    // It takes its answers by broadcast.
    packet[10] = 0x80;
    packet[28..30].copy_from_slice(&[2, 0x10]);
    packet[30..34].copy_from_slice(&number.to_be_bytes());
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let options = &mut packet[240..];
    options[..3].copy_from_slice(&[53, 1, if offered.is_some() { 3 } else { 1 }]);
    options[3..8].copy_from_slice(&[55, 3, 1, 3, 6]);
    let mut at = 8;
    if let Some((address, server)) = offered {
        options[8..10].copy_from_slice(&[50, 4]);
        options[10..14].copy_from_slice(&address);
        options[14..16].copy_from_slice(&[54, 4]);
        options[16..20].copy_from_slice(&server);
        at = 20;
    }
    options[at] = 255;
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    // What the cable does not take is lost, as on any cable.
    let _ = socket.send_to(&packet, to);
}

/// Number of the client, message type, address, server.
fn read(packet: &[u8]) -> Option<(usize, u8, [u8; 4], [u8; 4])> {
    if packet.len() < 240 || packet[0] != 2 {
        return None;
    }
    let number = u32::from_be_bytes(packet[4..8].try_into().ok()?) as usize;
    let (mut kind, mut server) = (0, [0; 4]);
    let mut options = &packet[240..];
    while let [code, length, rest @ ..] = options {
        if *code == 255 || rest.len() < usize::from(*length) {
            break;
        }
        let (value, rest) = rest.split_at(usize::from(*length));
        match code {
            53 => kind = *value.first()?,
            54 => server = value.try_into().ok()?,
            _ => {}
        }
        options = rest;
    }
    Some((number, kind, packet[16..20].try_into().ok()?, server))
}
