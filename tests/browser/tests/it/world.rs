//! A site behind a page that is served over TLS on loopback, for a real browser.

use std::net::SocketAddr;

use appliance::core::Core;
use appliance::{App, tls, web};
use browser::Browser;
use fleet::Fleet;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::example::{self, Site, site};

pub const PASSWORD: &str = "correct horse";

/// A site whose page is served, and a runtime in which things happen to it.
pub struct World {
    runtime: Runtime,
    pub site: Site,
    address: SocketAddr,
    server: JoinHandle<anyhow::Result<()>>,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn start() -> World {
        World::with(|_| {})
    }

    /// After something about the appliance was changed.
    pub fn with(change: impl FnOnce(&mut App)) -> World {
        let runtime = Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut site = runtime.block_on(site(dir.path()));
        change(&mut site.app);
        let (address, server) = serve(&runtime, &site, SocketAddr::from(([127, 0, 0, 1], 0)));
        World { runtime, site, address, server, dir }
    }

    /// What one process kills and another starts again.
    pub fn restart_server(&mut self) {
        self.server.abort();
        let _ = self.runtime.block_on(&mut self.server);
        std::thread::sleep(std::time::Duration::from_secs(3));
        (_, self.server) = serve(&self.runtime, &self.site, self.address);
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Opens a page and waits until it is live.
    pub fn go(&self, browser: &mut Browser, path: &str) {
        browser.open(&self.url(path)).unwrap();
        browser.wait_for("document.querySelector('#link b')?.textContent === 'live'").unwrap();
    }

    pub fn core(&self) -> &Core {
        &self.site.app.core
    }

    pub fn happen<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub fn until(&self, holds: impl Fn(&Fleet) -> bool) {
        self.happen(example::until(self.core(), holds));
    }

    pub fn logged_in(&self) -> Browser {
        let code = self.site.app.auth.code().unwrap();
        let mut browser = Browser::start().unwrap();
        browser.look(1280, 900, false).unwrap();
        browser.open(&self.url("/")).unwrap();
        browser.fill("input[name=code]", &code).unwrap();
        browser.fill("input[name=password]", PASSWORD).unwrap();
        browser.press("Enter").unwrap();
        browser
            .wait_for("location.pathname === '/' && document.querySelector('#link b').textContent === 'live'")
            .unwrap();
        browser
    }
}

fn serve(runtime: &Runtime, site: &Site, at: SocketAddr) -> (SocketAddr, JoinHandle<anyhow::Result<()>>) {
    let listener = runtime.block_on(TcpListener::bind(at)).unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls::page_config(site.app.ca.server_certificate(&[address.ip()]).unwrap()).unwrap();
    let router = web::router(site.app.clone());
    let server = runtime.spawn(tls::serve(listener, config, router, None, site.shutdown.clone()));
    (address, server)
}

/// A script that is true when the element's text contains this.
pub fn says(selector: &str, text: &str) -> String {
    let (selector, text) = (json!(selector), json!(text));
    format!("(document.querySelector({selector})?.innerText || '').includes({text})")
}
