//! A person at the appliance's page, in a real browser.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use browser::Browser;
use serde_json::json;

use crate::api::USER;
use crate::appliance::PASSWORD;
use crate::bmc::{self, Kind};

pub struct Desk {
    browser: Browser,
    page: SocketAddr,
    /// Where it keeps what it saw.
    pictures: PathBuf,
}

const LIVE: &str = "document.querySelector('#link b')?.textContent === 'live'";

impl Desk {
    pub fn log_in(page: SocketAddr, pictures: PathBuf) -> Result<Desk> {
        std::fs::create_dir_all(&pictures)?;
        let mut browser = Browser::start()?;
        browser.look(1280, 900, false)?;
        browser.open(&format!("https://{page}/login"))?;
        browser.fill("input[name=user]", USER)?;
        browser.fill("input[name=password]", PASSWORD)?;
        browser.press("Enter")?;
        browser
            .wait_for(&format!("location.pathname === '/' && {LIVE}"))
            .context("logging in at the page")?;
        Ok(Desk { browser, page, pictures })
    }

    /// Opens a page and waits until it follows what happens.
    pub fn go(&mut self, path: &str) -> Result<()> {
        self.browser.open(&format!("https://{}{path}", self.page))?;
        self.browser.wait_for(LIVE)
    }

    /// Tells at a machine's page what switches it.
    pub fn set_bmc(&mut self, machine: &str, kind: Kind, address: SocketAddr) -> Result<()> {
        self.go(&format!("/machines/{machine}"))?;
        self.browser.click("#thing button[data-do=bmc]")?;
        self.browser.wait_for("document.querySelector('#bmc').open")?;
        self.browser
            .eval(&format!("document.querySelector('#bmc select').value = {}", json!(kind.word())))?;
        self.browser.fill("#bmc [name=address]", &address.to_string())?;
        self.browser.fill("#bmc [name=user]", bmc::USER)?;
        self.browser.fill("#bmc [name=password]", bmc::PASSWORD)?;
        self.keep("bmc-question")?;
        self.browser.press("Enter")?;
        self.browser.wait_for("!document.querySelector('#bmc').open")?;
        Ok(())
    }

    /// Opens the serial console of a VM, which its host has to bring. Our own guests have nobody there to log in.
    pub fn console(&mut self, vm: &str) -> Result<()> {
        self.go(&format!("/vms/{vm}/console")).context("opening the console")?;
        self.keep("console")
    }

    /// Presses a button of a machine's page and says yes to the question.
    pub fn order(&mut self, machine: &str, label: &str) -> Result<()> {
        self.go(&format!("/machines/{machine}"))?;
        self.browser.click(&format!("#thing button[data-label={}]", json!(label)))?;
        self.browser.wait_for("document.querySelector('#ask').open")?;
        self.keep(&format!("{}-question", label.to_lowercase()))?;
        self.browser.click("#ask-yes")?;
        self.browser.wait_for("!document.querySelector('#ask').open")?;
        self.keep(&format!("{}-ordered", label.to_lowercase()))
    }

    /// Fills in what is asked before a machine is installed anew. Its own disk needs no leave to be wiped: what an
    /// installation has put there is known.
    pub fn reimage(&mut self, machine: &str) -> Result<()> {
        self.go(&format!("/machines/{machine}"))?;
        self.browser.click("#thing button[data-do=reimage]")?;
        self.browser.wait_for("document.querySelector('#reimage').open")?;
        self.browser.click("#reimage button[data-do=whatif]")?;
        let forecast = "document.querySelector('#reimage .forecast:not([hidden])')?.innerText ?? ''";
        self.browser
            .wait_for(&format!("({forecast}).includes('Nothing is changed yet')"))
            .context("asking What if? before it is reimaged")?;
        self.keep("reimage-question")?;
        self.browser.click("#reimage button.danger")?;
        self.browser.wait_for("!document.querySelector('#reimage').open")?;
        self.keep("reimage-ordered")
    }

    /// Waits until the page, which is left alone, shows a machine in a state.
    pub fn sees(&mut self, text: &str) -> Result<()> {
        self.browser
            .wait_for(&format!("document.querySelector('#thing').innerText.includes({})", json!(text)))
    }

    /// A picture of what is in the window now.
    pub fn keep(&mut self, name: &str) -> Result<()> {
        self.browser.window(&self.pictures.join(format!("{name}.png")))
    }
}
