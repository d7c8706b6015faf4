//! Takes pictures of the page: `look https://127.0.0.1:PORT PASSWORD FOLDER [WHAT…]`, wide, narrow and as on a
//! phone, light and dark. WHAT is a page (`/racks`), or a script that is run on it; between them, pictures are taken
//! of what is seen then. Of a page it prints when its first text was painted, counted from the click.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use browser::Browser;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, password, folder, what @ ..] = &arguments[..] else {
        anyhow::bail!("look ADDRESS PASSWORD FOLDER [WHAT…]")
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
    if what.is_empty() {
        return pictures(&mut browser, &folder, "");
    }
    for (number, what) in what.iter().enumerate() {
        if what.starts_with('/') {
            browser.open(&format!("{address}{what}"))?;
            println!("{what}: first painted after {}", painted(&mut browser)?);
        } else {
            browser.eval(what)?;
        }
        pictures(&mut browser, &folder, &format!("{}-", number + 1))?;
    }
    Ok(())
}

/// The best of five.
fn painted(browser: &mut Browser) -> anyhow::Result<String> {
    let first = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime || null";
    let mut times = Vec::new();
    for _ in 0..5 {
        browser.eval("location.reload()")?;
        std::thread::sleep(Duration::from_millis(1500));
        browser.wait_for(&format!("({first}) !== null"))?;
        times.extend(browser.eval(first)?.as_f64());
    }
    times.sort_by(f64::total_cmp);
    let [best, .., worst] = &times[..] else { anyhow::bail!("the browser says of no paint") };
    Ok(format!("{best:.0} to {worst:.0} ms"))
}

fn pictures(browser: &mut Browser, folder: &Path, prefix: &str) -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_millis(1200));
    for (width, height, dark) in
        [(1000, 900, false), (390, 844, false), (390, 844, true), (1600, 1000, true), (1600, 1000, false)]
    {
        browser.look(width, height, dark)?;
        std::thread::sleep(Duration::from_millis(300));
        let name = format!("{prefix}{width}{}.png", if dark { "-dark" } else { "" });
        browser.screenshot(&folder.join(name))?;
    }
    Ok(())
}
