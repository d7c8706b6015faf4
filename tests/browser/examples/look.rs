//! Takes pictures of the page at an address: `look https://127.0.0.1:PORT PASSWORD FOLDER [SCRIPT]`, wide and
//! narrow, light and dark.

use std::path::PathBuf;

use anyhow::Context as _;
use browser::Browser;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, password, folder, script @ ..] = &arguments[..] else {
        anyhow::bail!("look ADDRESS PASSWORD FOLDER [SCRIPT]")
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let mut browser = Browser::start()?;
    browser.look(1600, 1000, false)?;
    browser.open(&format!("{address}/login"))?;
    if browser.eval("location.pathname")? == json!("/login") {
        browser.screenshot(&folder.join("login.png"))?;
        browser.fill("input[name=password]", password)?;
        browser.press("Enter")?;
        browser.wait_for("location.pathname === '/'").context("logging in")?;
    }
    browser.wait_for("document.readyState === 'complete'")?;
    for script in script {
        browser.eval(script)?;
    }
    std::thread::sleep(std::time::Duration::from_millis(1200));
    for (width, height, dark) in
        [(1600, 1000, false), (1600, 1000, true), (1000, 900, false), (360, 780, true)]
    {
        browser.look(width, height, dark)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        let name = format!("{width}{}.png", if dark { "-dark" } else { "" });
        browser.screenshot(&folder.join(name))?;
    }
    Ok(())
}
