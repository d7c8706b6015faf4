use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client;

/// What the server does with one request; the requests come in this order, the last for all that follow.
#[derive(Clone, Copy)]
enum Turn {
    /// Honours a range.
    Whole,
    /// Says how much it has, sends so many bytes of it and hangs up.
    CutAfter(usize),
    /// Sends the whole file with 200, range or not.
    NoRanges,
    Status(&'static str),
}

struct Server {
    url: String,
    /// The Range header of each request.
    asked: Arc<Mutex<Vec<String>>>,
}

async fn server(content: Vec<u8>, turns: &'static [Turn]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/live.squashfs", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let turn = turns[number.min(turns.len() - 1)];
            let range = answer(stream, &content, turn).await;
            log.lock().unwrap().push(range);
        }
    });
    Server { url, asked }
}

async fn answer(mut stream: TcpStream, content: &[u8], turn: Turn) -> String {
    let mut request = vec![0; 4096];
    let n = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..n]).to_lowercase();
    let range =
        request.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or_default().to_owned();
    let from: usize = range.trim_end_matches('-').parse().unwrap_or(0);
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
    };
    let range_of =
        |from: usize| format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
    let (head, body) = match turn {
        Turn::Status(status) => (head(status, 0, ""), &content[..0]),
        Turn::NoRanges => (head("200 OK", content.len(), ""), content),
        Turn::Whole | Turn::CutAfter(_) if from >= content.len() => {
            (head("416 Range Not Satisfiable", 0, ""), &content[..0])
        }
        Turn::Whole if from > 0 => {
            (head("206 Partial Content", content.len() - from, &range_of(from)), &content[from..])
        }
        Turn::Whole => (head("200 OK", content.len(), ""), content),
        Turn::CutAfter(bytes) => {
            let (status, more) =
                if from > 0 { ("206 Partial Content", range_of(from)) } else { ("200 OK", String::new()) };
            let body = &content[from..];
            (head(status, body.len(), &more), &body[..bytes.min(body.len())])
        }
    };
    // The client may have hung up: that is its right.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    range
}

fn content() -> Vec<u8> {
    (0..200_000u32).map(|n| (n % 251) as u8).collect()
}

fn wanted(url: &str, bytes: Option<u64>) -> Wanted {
    Wanted { url: url.to_owned(), sha256: hex::encode(Sha256::digest(content())), bytes }
}

async fn get(wanted: &Wanted, path: &Path) -> Result<(), DownloadError> {
    to_file(&client::plain_http().unwrap(), wanted, path, |_| {}).await
}

#[tokio::test(start_paused = true)]
async fn a_cut_line_is_taken_up_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let server = server(
        content(),
        &[Turn::CutAfter(50_000), Turn::CutAfter(30_000), Turn::Status("503 Busy"), Turn::Whole],
    )
    .await;
    get(&wanted(&server.url, Some(200_000)), &path).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked[0], "");
    assert!(asked[1..].iter().all(|range| range.ends_with('-')), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_beginning_that_an_earlier_start_left_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, &content()[..120_000]).unwrap();
    let one = server(content(), &[Turn::Whole]).await;
    get(&wanted(&one.url, Some(200_000)), &path).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(*one.asked.lock().unwrap(), ["120000-"]);

    // Whole already: with its size known nobody is asked, without it the server's refusal says so.
    get(&wanted(&one.url, Some(200_000)), &path).await.unwrap();
    assert_eq!(one.asked.lock().unwrap().len(), 1);
    get(&wanted(&one.url, None), &path).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());

    // A server without ranges sends all of it again.
    fs::write(&path, &content()[..120_000]).unwrap();
    let plain = server(content(), &[Turn::NoRanges]).await;
    get(&wanted(&plain.url, None), &path).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[tokio::test(start_paused = true)]
async fn other_bytes_are_never_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut evil = content();
    evil[100] ^= 1;
    let changed = server(evil, &[Turn::Whole]).await;
    assert!(matches!(get(&wanted(&changed.url, None), &path).await, Err(DownloadError::Changed { .. })));
    assert!(!path.exists());

    let mut long = content();
    long.extend([0; 1000]);
    let longer = server(long, &[Turn::Whole]).await;
    assert!(matches!(
        get(&wanted(&longer.url, Some(200_000)), &path).await,
        Err(DownloadError::TooLong { .. })
    ));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);

    // The beginning of another version: found out at the end, and the next try begins anew.
    fs::write(&path, vec![7; 1000]).unwrap();
    let right = server(content(), &[Turn::Whole]).await;
    assert!(matches!(get(&wanted(&right.url, None), &path).await, Err(DownloadError::Changed { .. })));
    get(&wanted(&right.url, None), &path).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[tokio::test(start_paused = true)]
async fn what_will_not_come_is_given_up_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let missing = server(content(), &[Turn::Status("404 Not Found")]).await;
    let error = get(&wanted(&missing.url, None), &path).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} is refused: 404 Not Found", missing.url));
    let broken = server(content(), &[Turn::CutAfter(0)]).await;
    assert!(matches!(get(&wanted(&broken.url, None), &path).await, Err(DownloadError::Http { .. })));
}
