//! Takes the pictures of docs/: `pictures https://127.0.0.1:PORT CODE FOLDER`, of each main page what is seen of it in a
//! window, and three as on a phone. Behind them is `example_site FOLDER full` of crate `appliance`, which prints address
//! and code; those of a machine that is installed are of the lab (`out/lab/path/pictures`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use browser::Browser;

const WIDE: (u32, u32) = (1120, 760);
const PHONE: (u32, u32) = (390, 760);

/// A page, its picture, and the window.
const PAGES: [(&str, &str, (u32, u32)); 18] = [
    ("/", "page", (1400, 860)),
    ("/machines", "machines", WIDE),
    ("/machines/m5", "question", WIDE),
    ("/hosts", "hosts", WIDE),
    ("/vms", "vms", WIDE),
    ("/volumes", "volumes", WIDE),
    ("/images", "images", WIDE),
    ("/services", "services", WIDE),
    ("/systems", "systems", WIDE),
    ("/networks", "networks", WIDE),
    ("/switches", "switches", (1120, 1130)),
    ("/racks", "racks", (1120, 1240)),
    ("/users", "users", WIDE),
    ("/log", "log", WIDE),
    ("/settings", "settings", WIDE),
    ("/", "phone", PHONE),
    ("/machines", "phone-machines", PHONE),
    ("/racks", "phone-racks", PHONE),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, code, folder] = &arguments[..] else { anyhow::bail!("pictures ADDRESS CODE FOLDER") };
    let folder = PathBuf::from(folder);
    let mut browser = Browser::start()?;
    browser.look(WIDE.0, WIDE.1, false)?;
    browser.open(&format!("{address}/welcome"))?;
    browser.fill("input[name=code]", code)?;
    browser.fill("input[name=password]", "correct horse")?;
    browser.window(&folder.join("welcome.png"))?;
    browser.press("Enter")?;
    browser.wait_for("location.pathname === '/'").context("setting the first password")?;
    for (page, name, (width, height)) in PAGES {
        browser.look(width, height, false)?;
        browser.open(&format!("{address}{page}"))?;
        browser.wait_for("document.querySelector('#link b')?.textContent === 'live'")?;
        std::thread::sleep(Duration::from_millis(500));
        browser.window(&folder.join(format!("{name}.png")))?;
    }
    Ok(())
}
