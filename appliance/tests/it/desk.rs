//! A desk with `eli` on it, and an appliance over real TLS on loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;

use appliance::core::Core;
use appliance::{tls, web};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::example::{Site, site};

pub struct Desk {
    pub site: Site,
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
}

/// What `eli` said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub async fn desk() -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path()).await;
    serving(site, dir).await
}

pub async fn serving(mut site: Site, dir: tempfile::TempDir) -> Desk {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls::page_config(site.app.ca.server_certificate(&[]).unwrap()).unwrap();
    site.tasks.spawn(tls::serve(listener, tls, web::router(site.app.clone()), None, site.shutdown.clone()));
    Desk { site, dir, address }
}

pub async fn logged_in() -> Desk {
    let desk = desk().await;
    desk.log_in().await;
    desk
}
impl Desk {
    pub async fn log_in(&self) {
        let (code, fingerprint) = (self.site.app.auth.code().unwrap(), self.site.app.ca.fingerprint());
        let server = self.server();
        let said = self.eli(&["login", &server, "--fingerprint", &fingerprint, "--code", &code]).await;
        assert_eq!((said.code, said.out.as_str()), (0, &*format!("Logged in at {server}\n")), "{}", said.err);
    }

    pub fn server(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn core(&self) -> &Core {
        &self.site.app.core
    }

    pub fn settings(&self) -> PathBuf {
        self.dir.path().join("home/elisandra/eli.toml")
    }

    pub async fn eli(&self, arguments: &[&str]) -> Said {
        self.eli_with(arguments, &[("ELI_PASSWORD", "correct horse")]).await
    }

    /// With text on its standard input.
    pub async fn eli_reading(&self, arguments: &[&str], text: &str) -> Said {
        let input = std::fs::File::open(self.file("input", text.as_bytes())).unwrap();
        self.eli_from(arguments, &[("ELI_PASSWORD", "correct horse")], input.into()).await
    }

    pub async fn eli_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        self.eli_from(arguments, environment, std::process::Stdio::null()).await
    }

    pub async fn eli_from(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: std::process::Stdio,
    ) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eli"));
        command.args(arguments).env_clear().env("XDG_CONFIG_HOME", self.dir.path().join("home"));
        command.envs(environment.iter().copied()).stdin(input).kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
        let Output { status, stdout, stderr } = output.await.expect("eli did not end").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}
