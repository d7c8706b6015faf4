//! Large files are sent to a few at a time, and nobody gives up meanwhile.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use pxe::{Boot, NoteKind, Step, http::Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::served::{Served, serve_with, vmlinuz};

/// What EDK2 waits for the next byte.
const FIRMWARE: Duration = Duration::from_secs(5);

async fn served(transfers: usize, megabytes: usize) -> Arc<Served> {
    let limits = Limits { transfers, large: 1 << 20, ..Limits::default() };
    let served = serve_with(Boot::Disk, limits, None).await;
    fs::write(served.artifact("large"), image(megabytes)).unwrap();
    Arc::new(served)
}

fn image(megabytes: usize) -> Vec<u8> {
    (0..megabytes << 20).map(|n| (n >> 12 ^ n) as u8).collect()
}

/// Asks for a large file as the machine with this number, and reads the head of the answer.
async fn begin(served: &Served, machine: u8, path: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = served.connect([127, 0, 1, machine]).await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    loop {
        // Byte by byte, so that nothing of the body is taken.
        let read = timeout(FIRMWARE, stream.read_u8()).await;
        head.push(read.expect("the head comes at once").unwrap());
        if head.ends_with(b"\r\n\r\n") {
            return (stream, head);
        }
    }
}

/// Reads to the end with the patience of firmware.
async fn all(mut stream: TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    while timeout(FIRMWARE, stream.read_buf(&mut body)).await.expect("no gap is so long").unwrap() > 0 {}
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_machines_at_once_all_get_their_image() {
    let served = served(4, 6).await;
    let image = Arc::new(image(6));
    let mut streams = Vec::new();
    for machine in 1..=200 {
        let (stream, head) = begin(&served, machine, "/boot/files/large").await;
        assert!(String::from_utf8(head).unwrap().contains("\r\nContent-Length: 6291456\r\n"));
        streams.push(stream);
    }
    let mut machines = JoinSet::new();
    for stream in streams {
        let image = Arc::clone(&image);
        machines.spawn(async move { assert!(all(stream).await == *image) });
    }
    while let Some(ended) = machines.join_next().await {
        ended.unwrap();
    }
    served.book.noted(NoteKind::Http, "HTTP large: waits for its turn, number 19").await;
    let whole = |note: &&pxe::Note| note.step.to_string().starts_with("HTTP large: 6291456 bytes in");
    assert_eq!(served.book.notes().iter().filter(whole).count(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_served_in_the_order_in_which_they_came() {
    // More than any socket holds, so that who reads nothing keeps its turn.
    let served = served(1, 24).await;
    let (first, _) = begin(&served, 1, "/boot/files/large").await;
    let mut waiting = Vec::new();
    for machine in 2..=9 {
        waiting.push(begin(&served, machine, "/boot/files/large").await.0);
        served
            .book
            .noted(NoteKind::Http, &format!("number {}", machine - 1).replace("number 1", "the next"))
            .await;
    }
    // The second connection of a machine that waits comes after everybody's first, also after the tenth's.
    let (again, _) = begin(&served, 2, "/boot/files/large").await;
    let (tenth, _) = begin(&served, 10, "/boot/files/large").await;
    waiting.extend([tenth, again]);
    let mut ends = JoinSet::new();
    for (number, stream) in std::iter::once(first).chain(waiting).enumerate() {
        ends.spawn(async move {
            let body = all(stream).await;
            (number, body.len(), Instant::now())
        });
    }
    let mut ended = ends.join_all().await;
    ended.sort_by_key(|(_, _, when)| *when);
    assert!(ended.iter().all(|(_, bytes, _)| *bytes == 24 << 20));
    let order: Vec<usize> = ended.into_iter().map(|(number, ..)| number).collect();
    assert_eq!(order, (0..11).collect::<Vec<_>>());
}

/// Two machines that take nothing are before the rest: they lose their turn after a while, the clients of installers
/// wait for so long with the patience that they have, scripts and loaders do not wait at all, and those that slept get
/// their file all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_is_passed_and_who_waits_does_not_give_up() {
    let served = served(1, 24).await;
    let image = image(24);
    let (asleep, _) = begin(&served, 1, "/boot/files/large").await;
    let (asleep_too, _) = begin(&served, 2, "/boot/files/large").await;
    let folder = tempfile::tempdir().unwrap();
    let url = served.url("/boot/files/large");
    let begun = Instant::now();
    let mut clients = Vec::new();
    for (number, (program, arguments)) in [
        // As libdnf, Anaconda's, but with a third of its patience. (busybox's -T crashes, whatever the server.)
        ("curl", vec!["-sSf", "--speed-limit", "1000", "--speed-time", "10", "-o"]),
        ("wget", vec!["-q", "--tries=1", "--read-timeout=3", "-O"]),
        ("busybox", vec!["wget", "-q", "-O"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = Command::new(program);
        command.args(arguments).arg(folder.path().join(number.to_string())).arg(&url);
        clients.push((program, command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))));
    }
    // With the queue full, what is not large comes at once.
    for _ in 0..5 {
        let asked = Instant::now();
        assert_eq!(served.get("/boot/02-00-00-00-00-01/script.ipxe").await.status(), "200");
        assert!(served.get("/boot/files/vmlinuz").await.body == vmlinuz());
        assert!(served.ask("GET", "/boot/files/large", &["Range: bytes=9-99"]).await.body == image[9..100]);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for (program, mut client) in clients {
        let status = tokio::task::spawn_blocking(move || client.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{program}: {status}");
    }
    // They waited for two who slept.
    assert!(begun.elapsed() > Duration::from_secs(6), "{:?}", begun.elapsed());
    for number in 0..3 {
        assert!(fs::read(folder.path().join(number.to_string())).unwrap() == image);
    }
    let (first, second) = tokio::join!(all(asleep), all(asleep_too));
    assert!(first == image && second == image);
    let waited = |note: &pxe::Note| matches!(&note.step, Step::Waiting { name, .. } if name == "large");
    assert!(served.book.notes().iter().any(waited));
}

/// Who leaves the queue, or a turn, leaves it to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_makes_room() {
    let served = served(1, 24).await;
    let mut streams = Vec::new();
    for machine in 1..=20 {
        streams.push(begin(&served, machine, "/boot/files/large").await.0);
    }
    let last = streams.pop().unwrap();
    let begun = Instant::now();
    drop(streams);
    assert_eq!(all(last).await.len(), 24 << 20);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    served.book.noted(NoteKind::Http, "large: ended after").await;
}
