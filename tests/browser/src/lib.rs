//! A real browser (Chromium without a window), driven over its DevTools protocol on a pair of pipes:
//! one JSON message after another, each ended by a zero byte. No driver program, no network port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use serde_json::{Value, json};

/// On a busy machine without a GPU a page takes its time.
const LIMIT: Duration = Duration::from_secs(60);

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
    session: Option<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with an empty profile and one page. Certificates are not checked: the appliance's
    /// is signed by its own authority.
    pub fn start() -> anyhow::Result<Browser> {
        let program = NAMES
            .iter()
            .find(|name| found(name))
            .context("there is no chromium; apt-get install chromium")?;
        let profile = tempfile::tempdir()?;
        // Chromium speaks on descriptors 3 and 4; the shell puts its own stdin and stdout there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", program])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--ignore-certificate-errors",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting chromium")?;
        let to = child.stdin.take().context("a pipe to chromium")?;
        let output = child.stdout.take().context("a pipe from chromium")?;
        let (heard, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(output).split(0) {
                let Ok(message) = message else { return };
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser { child, to, from, last: 0, session: None, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}))?;
        Ok(browser)
    }

    pub fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": url }))?;
        if let Some(error) = opened["errorText"].as_str() {
            bail!("{url} could not be opened: {error}");
        }
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
    }

    /// What `script` evaluates to.
    pub fn eval(&mut self, script: &str) -> anyhow::Result<Value> {
        let asked = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{script}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until `script` is true on the page.
    pub fn wait_for(&mut self, script: &str) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            // While the page changes to another there is nothing that could evaluate it.
            if matches!(self.eval(script), Ok(Value::Bool(true))) {
                return Ok(());
            }
            if Instant::now() > until {
                let text = self.eval("document.body.innerText")?;
                bail!("{script} did not come true within {LIMIT:?}; the page says: {text}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for the element and clicks into its middle, as a person does.
    pub fn click(&mut self, selector: &str) -> anyhow::Result<()> {
        let selector = json!(selector);
        self.wait_for(&format!(
            "(() => {{ const e = document.querySelector({selector}); return !!e && !e.disabled; }})()"
        ))?;
        let look = format!(
            "(() => {{ const e = document.querySelector({selector}); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getBoundingClientRect(); return {{ x: r.x + r.width / 2, y: r.y + r.height / 2, \
             seen: e === document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2) || \
             e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)) }}; }})()"
        );
        let listen = format!(
            "window.heard = false; document.addEventListener('click', event => {{ \
             window.heard ||= !!event.target.closest({selector}); }}, {{ capture: true, once: true }})"
        );
        for _ in 0..10 {
            let place = self.at_rest(&look)?;
            if place["seen"] != true {
                bail!("{selector} is covered by something or outside of the page");
            }
            self.eval(&listen)?;
            for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
                let event = json!({
                    "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1,
                });
                self.call("Input.dispatchMouseEvent", event)?;
            }
            // It has moved from under the pointer after all. On another page, it was a link.
            if self.eval("window.heard")? != false {
                return Ok(());
            }
        }
        bail!("{selector} never stands still for long enough to be clicked")
    }

    /// Where something is once two looks agree: a line that comes in above it moves it from under the pointer.
    fn at_rest(&mut self, look: &str) -> anyhow::Result<Value> {
        let mut place = self.eval(look)?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            let before = std::mem::replace(&mut place, self.eval(look)?);
            if place == before && place["seen"] == true {
                break;
            }
        }
        Ok(place)
    }

    /// Puts the cursor into the element and types.
    pub fn fill(&mut self, selector: &str, text: &str) -> anyhow::Result<()> {
        self.click(selector)?;
        self.eval(&format!("document.querySelector({}).select()", json!(selector)))?;
        self.call("Input.insertText", json!({ "text": text }))?;
        Ok(())
    }

    /// Types where the cursor is.
    pub fn type_keys(&mut self, text: &str) -> anyhow::Result<()> {
        for key in text.chars() {
            for kind in ["keyDown", "keyUp"] {
                let mut event = json!({ "type": kind, "key": key.to_string() });
                if kind == "keyDown" {
                    event["text"] = json!(key.to_string());
                }
                self.call("Input.dispatchKeyEvent", event)?;
            }
        }
        Ok(())
    }

    /// A key that does something: `Enter`, `Escape`, `Tab`.
    pub fn press(&mut self, key: &str) -> anyhow::Result<()> {
        let (code, text) = match key {
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            "Tab" => (9, None),
            other => bail!("{other} is not known"),
        };
        let event = json!({ "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        for kind in ["keyDown", "keyUp"] {
            let mut event = event.clone();
            event["type"] = json!(kind);
            if kind == "keyUp" || text.is_none() {
                event.as_object_mut().map(|event| event.remove("text"));
            }
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Chooses files in an `<input type=file>`.
    pub fn choose(&mut self, selector: &str, file: &Path) -> anyhow::Result<()> {
        let asked = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
        let element = self.call("Runtime.evaluate", asked)?;
        let chosen = json!({ "files": [file], "objectId": element["result"]["objectId"] });
        self.call("DOM.setFileInputFiles", chosen)?;
        Ok(())
    }

    /// The size of the window in CSS pixels, and whether the person prefers dark.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) -> anyhow::Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// Saves the whole page as a PNG.
    pub fn screenshot(&mut self, path: &Path) -> anyhow::Result<()> {
        self.capture(path, true)
    }

    /// Saves what is in the window as a PNG.
    pub fn window(&mut self, path: &Path) -> anyhow::Result<()> {
        self.capture(path, false)
    }

    fn capture(&mut self, path: &Path, beyond: bool) -> anyhow::Result<()> {
        let answer =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": beyond }))?;
        let png = base64::prelude::BASE64_STANDARD.decode(answer["data"].as_str().unwrap_or_default())?;
        std::fs::write(path, png).with_context(|| format!("writing {}", path.display()))
    }

    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).context("speaking to chromium")?;
        loop {
            match self.from.recv_timeout(LIMIT) {
                Ok(answer) if answer["id"] == id => {
                    if let Some(error) = answer.get("error") {
                        bail!("{method}: {error}");
                    }
                    return Ok(answer["result"].clone());
                }
                // Events and late answers.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("{method}: no answer from chromium within {LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: chromium has ended"),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close it ends its own children too; killed it would leave them.
        self.session = None;
        if self.call("Browser.close", json!({})).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn found(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}
