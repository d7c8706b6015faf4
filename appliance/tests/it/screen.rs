//! The appliance's own screen: on a real terminal, and what the daemon answers it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::client::{Client, logged_in};
use crate::example::{mac, report};
use appliance::config::Config;
use appliance::console;
use appliance::network::Found;
use axum::http::StatusCode;
use serde_json::json;

/// A terminal of 80 by 25 with the screen on it.
struct Terminal {
    dir: tempfile::TempDir,
    config: Config,
}

impl Terminal {
    fn new() -> Terminal {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["run", "state", "bin"] {
            std::fs::create_dir(path(folder)).unwrap();
        }
        // What would restart this computer writes down that it was called.
        for program in ["systemctl", "journalctl"] {
            let script = format!(
                "#!/bin/sh\necho {program} \"$@\" >> {}\necho 'a line of the log'\n",
                path("called").display()
            );
            let file = path("bin").join(program);
            std::fs::write(&file, script).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let settings = format!("run = {:?}\nstate = {:?}\n", path("run"), path("state"));
        std::fs::write(path("settings"), settings).unwrap();
        let config = Config::read(Some(&path("settings"))).unwrap();
        Terminal { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(self.path("tmux")).args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn start(&self) {
        let line = format!(
            "PATH={}:$PATH {} --config {} console",
            self.path("bin").display(),
            env!("CARGO_BIN_EXE_elisandra"),
            self.path("settings").display()
        );
        self.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "25", &line]);
    }

    fn type_keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    async fn shows(&self, text: &str) -> String {
        let mut shown = String::new();
        for _ in 0..300 {
            shown = self.tmux(&["capture-pane", "-p"]);
            if shown.contains(text) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{text:?} is not on the screen:\n{shown}");
    }

    fn called(&self) -> String {
        std::fs::read_to_string(self.path("called")).unwrap_or_default()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(self.path("tmux")).arg("kill-server").output();
    }
}

fn serve(client: &mut Client, config: &Config) {
    let found = Found { sentence: "Serving 10.77.0.0/16 on lan0.".into(), ..Found::default() };
    let site = &mut client.site;
    site.tasks.spawn(console::serve(site.app.clone(), config.clone(), found, site.shutdown.clone()));
}

#[tokio::test]
async fn somebody_who_is_there_sees_it_all_and_resets_the_password() {
    let mut admin = logged_in().await;
    let terminal = Terminal::new();
    terminal.start();
    let before = terminal.shows("the daemon is not running").await;
    assert!(before.contains("The appliance is starting."), "{before}");

    report(&admin.site.app.core, mac(3), true).await;
    serve(&mut admin, &terminal.config);
    let overview = terminal.shows("Serving 10.77.0.0/16 on lan0.").await;
    let fingerprint = admin.site.app.ca.fingerprint();
    assert!(overview.contains(&fingerprint[..47]) && overview.contains(&fingerprint[48..]), "{overview}");
    assert!(overview.contains("Log in with the password that was set. Forgotten? Press 5."), "{overview}");
    terminal.type_keys(&["2"]);
    terminal.shows("-> adopt it with wiping").await;
    terminal.type_keys(&["3"]);
    terminal.shows("a line of the log").await;

    terminal.type_keys(&["5", "Enter"]);
    terminal.shows("end every session of admin?").await;
    terminal.type_keys(&["n"]);
    terminal.shows("Nothing was done.").await;
    admin.get("/api/v1/me").await.of(StatusCode::OK);
    terminal.type_keys(&["Enter", "y"]);
    let shown = terminal.shows("with this one-time code:").await;
    let code = admin.site.app.auth.code().unwrap();
    assert!(shown.contains(&code), "{shown}");
    admin.get("/api/v1/me").await.of(StatusCode::UNAUTHORIZED);
    let password = json!({ "code": code, "password": "another horse" });
    let opened = admin.post("/api/v1/password", password).await.of(StatusCode::OK);
    admin.token = opened["token"].as_str().unwrap().to_owned();
    terminal.shows("Log in with the password that was set.").await;
    let mut lines = String::new();
    for _ in 0..100 {
        lines = admin.get("/api/v1/timeline/site").await.text;
        if lines.contains("by the console") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        lines.contains("The password of admin was reset and its sessions were ended, by the console"),
        "{lines}"
    );
    assert!(!lines.contains(&code), "{lines}");

    terminal.type_keys(&["6", "Enter"]);
    terminal.shows("Restart this machine? VMs on it stop.").await;
    terminal.type_keys(&["Escape"]);
    terminal.shows("Nothing was done.").await;
    assert!(!terminal.called().contains("reboot"), "{}", terminal.called());
    terminal.type_keys(&["Down", "Enter", "y"]);
    terminal.shows("Powering off").await;
    for _ in 0..100 {
        if terminal.called().contains("systemctl poweroff") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(terminal.called().contains("systemctl poweroff"), "{}", terminal.called());

    // The daemon stops; what was known stays.
    admin.site.tasks.abort_all();
    std::fs::remove_file(terminal.config.run.join("console.sock")).unwrap();
    terminal.type_keys(&["1"]);
    let away = terminal.shows("the daemon is not running").await;
    assert!(away.contains("Serving 10.77.0.0/16 on lan0."), "{away}");
}

#[tokio::test]
async fn a_reset_lets_others_log_in_and_outlives_a_restart() {
    let admin = logged_in().await;
    admin.post("/api/v1/users", json!({ "name": "ada", "role": "viewer" })).await.of(StatusCode::OK);
    let password = json!({ "password": "ada has a horse" });
    admin.put("/api/v1/users/ada/password", password).await.of(StatusCode::OK);
    let code = admin.site.app.auth.reset_first_password().await.unwrap();

    let ada = json!({ "user": "ada", "password": "ada has a horse" });
    admin.post("/api/v1/login", ada).await.of(StatusCode::OK);
    let old = json!({ "user": "admin", "password": "correct horse" });
    admin.post("/api/v1/login", old).await.of(StatusCode::CONFLICT);

    let auth = appliance::auth::Auth::open(admin.site.app.core.store().clone()).await.unwrap();
    let after = auth.code().expect("a daemon that starts anew shows a code, too");
    assert_ne!(after, code);
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_noise_does_not_stop_it() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    let mut admin = logged_in().await;
    let terminal = Terminal::new();
    serve(&mut admin, &terminal.config);
    let path = terminal.config.run.join("console.sock");
    for _ in 0..100 {
        if path.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |path: PathBuf, text: Vec<u8>| {
        tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(Path::new(&path)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // It may hang up before all of it was read.
            let _ = stream.write_all(&text);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        })
    };
    for noise in [b"\n".to_vec(), b"\"reset\"\n".to_vec(), vec![0xff; 100], vec![b'x'; 1 << 20]] {
        let answer = ask(path.clone(), noise).await.unwrap();
        assert!(answer.is_empty() || answer.contains("that is no question"), "{answer}");
    }
    let answer = ask(path.clone(), b"\"status\"\n".to_vec()).await.unwrap();
    assert!(answer.contains("Serving 10.77.0.0/16"), "{answer}");
    assert!(admin.site.app.auth.code().is_none());
}
