//! Does the software answer as it should?

use std::process::Command;
use std::time::Duration;

use fleet::wire::SoftwareSpec;
use reqwest::Client;

use crate::tool::{self, SHORT};

/// One request; an error is the sentence that says what is wrong.
pub async fn check(http: &Client, spec: &SoftwareSpec) -> Result<(), String> {
    let path = spec.health.path.trim_start_matches('/');
    let url = format!("http://127.0.0.1:{}/{path}", spec.port);
    let answer = http.get(&url).timeout(Duration::from_secs(10)).send().await;
    match answer {
        Ok(answer) if answer.status().as_u16() == spec.health.status => Ok(()),
        Ok(answer) => Err(format!(
            "port {} answers /{path} with {}, not {}",
            spec.port,
            answer.status().as_u16(),
            spec.health.status
        )),
        Err(error) if error.is_timeout() => Err(format!("port {} does not answer within 10 s", spec.port)),
        Err(_) => Err(format!("nothing answers on port {}", spec.port)),
    }
}

/// What systemd says of a unit that does not answer: its state and the last line of its log. Blocks.
pub fn unit_says(unit: &str) -> String {
    let state = tool::run(
        "asking for the service",
        SHORT,
        Command::new("systemctl").args(["show", "-P", "SubState", unit]),
    );
    let mut journal = Command::new("journalctl");
    journal.args(["--unit", unit, "--lines", "1", "--output", "cat", "--quiet"]);
    let log = tool::run("asking for the service's log", SHORT, &mut journal).unwrap_or_default();
    let state = state.map(|state| state.trim().to_owned()).unwrap_or_else(|error| error.to_string());
    match log.trim() {
        "" => format!("{unit} is {state}"),
        line => format!("{unit} is {state}; its last word: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use fleet::wire::HealthCheck;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client;

    async fn answering(status: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .await
                .unwrap();
        });
        port
    }

    fn spec(port: u16) -> SoftwareSpec {
        SoftwareSpec {
            name: "hello".to_owned(),
            version: "1".to_owned(),
            bundle_sha256: String::new(),
            debs: vec![],
            files: vec![],
            unit: "hello.service".to_owned(),
            port,
            health: HealthCheck { path: "/health".to_owned(), status: 200 },
        }
    }

    #[tokio::test]
    async fn only_the_right_status_is_health() {
        let http = client::plain_http().unwrap();
        assert_eq!(check(&http, &spec(answering("200 OK").await)).await, Ok(()));
        let port = answering("503 Service Unavailable").await;
        assert_eq!(
            check(&http, &spec(port)).await,
            Err(format!("port {port} answers /health with 503, not 200"))
        );
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(check(&http, &spec(closed)).await, Err(format!("nothing answers on port {closed}")));
    }
}
