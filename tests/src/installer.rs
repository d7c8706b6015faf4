//! Debian's own installer, from a blank machine to its login prompt, beside a host of ours in the same lab.
//!
//! ```text
//! outside ── uplink ── network namespace of this process
//!                        elisandra serve, cache of the mirror ── lan0 (bridge) ── tap ── machine, one at a time
//! ```
//!
//! The machine's only way is the bridge: what it installs, it has from the appliance. What was downloaded once is kept
//! in ~/.cache/elisandra/debian-mirror for the next run.

mod cache;
mod medium;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::cache::Cache;
pub use self::medium::Medium;
use crate::api::{Api, Machine as Listed};
use crate::appliance::{PASSWORD, retry};
use crate::child;
use crate::console;
use crate::eli::Eli;
use crate::lab::Lab;
use crate::machine::{Firmware, Link, Machine, Spec};
use crate::matrix::network::{Lan, Tap};
use crate::progress::{Progress, seconds};
use crate::ssh::Key;
use crate::story::Count;
use crate::uplink::{Mirror, Uplink};

const SOON: Duration = Duration::from_secs(120);
const HOST_LIMIT: Duration = Duration::from_secs(600);
const BEGIN_LIMIT: Duration = Duration::from_secs(600);
const INSTALLER_LIMIT: Duration = Duration::from_secs(2400);
const PROMPT_LIMIT: Duration = Duration::from_secs(300);

/// What was built and what is installed from.
pub struct Products {
    pub out: PathBuf,
    pub binaries: PathBuf,
    pub medium: Medium,
    pub mirror: Mirror,
}

/// Fields are dropped in this order: machines before what they are plugged into.
pub struct Scene {
    machine: Option<Machine>,
    tap: Tap,
    daemon: Child,
    lan: Lan,
    api: Option<Api>,
    eli: Option<Eli>,
    key: Key,
    cache: Cache,
    uplink: Uplink,
    lab: Lab,
    products: Products,
    progress: Progress,
    /// From power-on to ready, and to the login prompt.
    host: Option<Duration>,
    debian: Option<Duration>,
    installed: Option<Listed>,
}

pub type Chapter = (&'static str, fn(&mut Scene) -> Result<()>);

/// What one sees even of a mirror that lacks the installer's modules.
pub const BEGINNING: [Chapter; 2] = [IMPORT, BEGIN];
const IMPORT: Chapter = ("Debian's installer is taken as a medium", import);
const BEGIN: Chapter =
    ("it takes our answers, asks nobody, and asks the cache of the mirror for its modules", begin);

pub const ALL: [Chapter; 7] = [
    IMPORT,
    ("a blank machine becomes a host of ours", host),
    BEGIN,
    ("it installs the machine to the end", install),
    ("the machine starts from its own disk, to a login prompt", prompt),
    ("every package on it came through the cache of the mirror", packages),
    ("the next machine has all of them without the mirror", again),
];

pub fn tell(mut scene: Scene, chapters: &[Chapter]) -> Count {
    for (number, (name, chapter)) in chapters.iter().enumerate() {
        match chapter(&mut scene) {
            Ok(()) => scene.progress.say(format_args!("passed: {name}")),
            Err(error) => {
                scene.progress.say(format_args!("FAILED: {name}: {error:#}"));
                println!("{}", scene.evidence());
                for (untold, _) in &chapters[number + 1..] {
                    scene.progress.say(format_args!("FAILED: {untold}: not reached"));
                }
                return Count { passed: number, failed: chapters.len() - number };
            }
        }
    }
    if let (Some(host), Some(debian)) = (scene.host, scene.debian) {
        println!(
            "\nFrom power-on of a blank machine: a host of ours is ready after {}, Debian's login prompt is there after \
             {}; that is {:.1} times as long.\nunder {}",
            seconds(host),
            seconds(debian),
            debian.as_secs_f64() / host.as_secs_f64(),
            scene.lab.accelerator,
        );
    }
    Count { passed: chapters.len(), failed: 0 }
}

impl Scene {
    /// What a machine's timeline says that the mirror does not give it.
    fn lacked(&self, machine: &str) -> Result<Option<String>> {
        let line = self.api()?.timeline(machine)?.into_iter().find(|line| line.kind == "mirror");
        Ok(line.map(|line| line.text))
    }

    /// The appliance's daemon, with an empty state.
    pub fn open(lab: Lab, products: Products, cache: &Path) -> Result<Scene> {
        let uplink = Uplink::open()?;
        let lan = Lan::bare(0)?;
        let tap = lan.tap()?;
        let (state, run) = (lab.folder.join("state"), lab.folder.join("run"));
        for folder in [&state, &run] {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
            }
            fs::create_dir_all(folder)?;
        }
        let cache = Cache::open(cache, lan.address)?;
        std::os::unix::fs::symlink(&cache.folder, state.join("mirror"))?;
        let out = products.out.canonicalize()?;
        let config = lab.folder.join("elisandra.toml");
        let settings = format!(
            "state = {state:?}\nrun = {run:?}\nfiles = {out:?}\nloaders = {:?}\nmirror = {:?}\n\n\
             [serve]\ninterface = {:?}\naddress = \"{}\"\nnetwork = \"10.77.0.0/16\"\n",
            out.join("loaders"),
            products.mirror.url,
            lan.bridge,
            lan.address,
        );
        fs::write(&config, settings)?;
        let program = products.binaries.join("elisandra");
        let program = program.canonicalize().with_context(|| format!("looking for {}", program.display()))?;
        let mut command = child::command(program.to_str().context("its path is not UTF-8")?);
        command.arg("--config").arg(&config).arg("serve");
        command.env("http_proxy", format!("http://{}", uplink.address));
        command.stderr(File::create(lab.folder.join("daemon.log"))?);
        let daemon = child::spawn(command).context("starting the appliance's daemon")?;
        Ok(Scene {
            machine: None,
            tap,
            daemon,
            lan,
            api: None,
            eli: None,
            key: Key::in_folder(&lab.folder)?,
            cache,
            uplink,
            lab,
            products,
            progress: Progress::start(),
            host: None,
            debian: None,
            installed: None,
        })
    }

    fn api(&self) -> Result<&Api> {
        self.api.as_ref().context("nobody has logged in yet")
    }

    fn eli(&self) -> Result<&Eli> {
        self.eli.as_ref().context("nobody has logged in yet")
    }

    fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context("no machine is plugged in")
    }

    /// Switches a blank machine on, in the place of the one before, and waits until its hardware is known.
    fn plug_in(&mut self, name: &str) -> Result<(Instant, Listed)> {
        self.machine = None;
        let mut spec = Spec::blank(name, Firmware::Bios);
        spec.nics[0].link = Link::Tap { device: self.tap.name.clone() };
        let mut machine = self.lab.build(spec)?;
        let on = Instant::now();
        machine.power_on()?;
        let mac = machine.mac();
        self.machine = Some(machine);
        let listed = self.api()?.wait_until(&format!("{name} is found"), SOON, |state| {
            state.machine(mac).filter(|machine| machine.phase == "found").cloned()
        })?;
        Ok((on, listed))
    }

    /// Waits until it has come to this phase, and fails early when its installation has.
    fn comes_to(&self, id: &str, phase: &str, limit: Duration) -> Result<Listed> {
        let machine = self.api()?.wait_until(&format!("{id} is {phase}"), limit, |state| {
            let machine = state.machines.iter().find(|machine| machine.id == id)?;
            [phase, "failed"].contains(&machine.phase.as_str()).then(|| machine.clone())
        })?;
        if machine.phase != phase {
            let why: Vec<String> = machine.waiting.into_iter().map(|wait| wait.what).collect();
            bail!("{} is {}: {}", machine.name, machine.phase, why.join("; "));
        }
        Ok(machine)
    }

    /// The machine's timeline has lines with these parts, in this order.
    fn has_in_order(&self, id: &str, parts: &[&str]) -> Result<()> {
        let lines = self.api()?.timeline(id)?;
        let mut rest = lines.iter();
        for part in parts {
            if !rest.any(|line| line.text.contains(part)) {
                bail!("on its timeline there is no {part:?} at its place");
            }
        }
        Ok(())
    }

    fn evidence(&self) -> String {
        let mut text = String::new();
        if let Some(machine) = &self.machine {
            let tail = console::plain(&machine.console_tail(40));
            text += &format!("\n── serial log of {}\n{tail}\n", machine.name);
        }
        let machines = self.api.as_ref().and_then(|api| api.state().ok()).map(|state| state.machines);
        for machine in machines.unwrap_or_default() {
            let Ok(lines) = self.api().and_then(|api| api.timeline(&machine.id)) else { continue };
            text += &format!("\n── timeline of {}\n", machine.name);
            for line in &lines[lines.len().saturating_sub(30)..] {
                text += &format!("{} {:<8} {}\n", line.at, line.kind, line.text);
            }
        }
        let log = fs::read_to_string(self.lab.folder.join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("INFO")).collect();
        text + "\n── the daemon's log\n" + &lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.machine = None;
        child::kill(&mut self.daemon);
    }
}

fn import(scene: &mut Scene) -> Result<()> {
    let folder = &scene.products.medium.folder;
    let screen = scene.lab.folder.join("run/console");
    let introduction = retry(SOON, || console::introduction(&fs::read_to_string(&screen)?))?;
    let page = SocketAddr::from((scene.lan.address, 443));
    let mut api = Api::new(page, &introduction.ca_sha256)?;
    let code = introduction.one_time_code.context("the daemon's screen shows no one-time code")?;
    retry(SOON, || api.set_first_password(&code, PASSWORD))?;
    api.let_in(&scene.key.public)?;
    let home = scene.lab.folder.join("home");
    fs::create_dir_all(&home)?;
    let eli = Eli::new(&scene.products.binaries, &home)?;
    eli.log_in(page, &introduction.ca_sha256, PASSWORD)?;
    eli.show(&["policy", "--ask"])?;
    eli.show(&["os", "import", folder.to_str().context("the medium's folder is not UTF-8")?])?;
    (scene.api, scene.eli) = (Some(api), Some(eli));
    Ok(())
}

fn host(scene: &mut Scene) -> Result<()> {
    let (on, machine) = scene.plug_in("host")?;
    scene.eli()?.show(&["adopt", &machine.id])?;
    scene.comes_to(&machine.id, "ready", HOST_LIMIT)?;
    let took = on.elapsed();
    scene.host = Some(took);
    scene.progress.say(format_args!("a host of ours is ready {} after power-on", seconds(took)));
    Ok(())
}

fn begin(scene: &mut Scene) -> Result<()> {
    scene.cache.begin();
    let (on, machine) = scene.plug_in("debian")?;
    scene.eli()?.show(&["machine", "install", &machine.id, "--profile", "debian"])?;
    let end = Instant::now() + BEGIN_LIMIT;
    // It is asked for even if the mirror has none: then the machine's timeline says so.
    let lacked = loop {
        if let Some(line) = scene.lacked(&machine.id)? {
            break Some(line);
        }
        if !scene.cache.used()?.is_empty() {
            break None;
        }
        ensure!(Instant::now() < end, "it asked for no module within {}", seconds(BEGIN_LIMIT));
        thread::sleep(Duration::from_secs(1));
    };
    scene.progress.say(format_args!("it asks for its modules {} after power-on", seconds(on.elapsed())));
    if let Some(line) = lacked {
        ensure!(line.contains(" has no pool/"), "{line}");
        scene.progress.say(format_args!("its timeline says: {line}"));
    }
    let wanted = ["script: the installer of debian", "/linux: ", "/initrd.gz: ", "fetched its answers"];
    scene.has_in_order(&machine.id, &wanted)?;
    scene.installed = Some(machine);
    Ok(())
}

fn install(scene: &mut Scene) -> Result<()> {
    let machine = scene.installed.clone().context("nothing is being installed")?;
    let end = Instant::now() + INSTALLER_LIMIT;
    let installed = loop {
        if let Some(line) = scene.lacked(&machine.id)? {
            bail!("{line}");
        }
        match scene.comes_to(&machine.id, "installed", Duration::from_secs(5)) {
            Err(error) if Instant::now() > end => return Err(error),
            Err(error) if error.to_string().contains("failed") => return Err(error),
            Err(_) => {}
            Ok(installed) => break installed,
        }
    };
    let took = scene.machine()?.on_since().context("it is off")?.elapsed();
    scene.progress.say(format_args!("Debian's installer is done {} after power-on", seconds(took)));
    ensure!(installed.attempts <= 1, "the installer was started {} times", installed.attempts);
    scene.installed = Some(installed);
    Ok(())
}

fn prompt(scene: &mut Scene) -> Result<()> {
    let machine = scene.installed.clone().context("nothing was installed")?;
    let prompt = format!("{} login:", machine.name);
    let shown = scene.machine()?.wait_for(&prompt, PROMPT_LIMIT)?;
    let took = scene.machine()?.on_since().context("it is off")?.elapsed();
    scene.debian = Some(took);
    scene.progress.say(format_args!("Debian's login prompt is there {} after power-on", seconds(took)));
    ensure!(shown.contains("Debian GNU/Linux"), "its console does not say that it is Debian");
    scene.has_in_order(&machine.id, &["script: the installer of debian", "script: disk"])
}

fn packages(scene: &mut Scene) -> Result<()> {
    let machine = scene.installed.clone().context("nothing was installed")?;
    let address = *machine.addresses.first().context("it has no address")?;
    let place = SocketAddr::from((address, 22));
    let inside = |command: &str| retry(SOON, || scene.key.run(place, command));
    // The answers that it was to have.
    let name = inside("hostname")?;
    ensure!(name.trim() == machine.name, "it calls itself {name:?}");
    let sources = inside("cat /etc/apt/sources.list")?;
    let ours =
        format!("deb http://{}:3142/debian {} main", scene.lan.address, scene.products.medium.codename);
    ensure!(sources.contains(&ours), "its /etc/apt/sources.list has no {ours:?}: {sources}");
    let listed = inside("dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Version}|${Architecture}\\n'")?;
    let used = scene.cache.used()?;
    let mut count = 0;
    for line in listed.lines() {
        let [status, package, version, architecture] = line.split('|').collect::<Vec<_>>()[..] else {
            bail!("dpkg-query says {line:?}");
        };
        ensure!(status.trim() == "ii", "{package} is not installed as it should be: {status:?}");
        // A file's name has no epoch.
        let version = version.split_once(':').map_or(version, |(_, version)| version);
        let file = format!("/{package}_{version}_{architecture}.deb");
        ensure!(
            used.iter().any(|path| path.ends_with(&file)),
            "{package} {version} did not come through the cache"
        );
        count += 1;
    }
    ensure!(count > 100, "only {count} packages are installed");
    let (fetched, all) = (scene.cache.fetched(&used)?, used.len());
    scene.progress.say(format_args!(
        "{count} packages are installed; {all} files of the pool went through the cache, {fetched} of them came from \
         the mirror"
    ));
    Ok(())
}

fn again(scene: &mut Scene) -> Result<()> {
    scene.uplink.cut();
    let used = scene.cache.used()?;
    let bytes = scene.cache.ask_for(&used)?;
    scene.progress.say(format_args!("{} files, {} MB, from the cache alone", used.len(), bytes / 1_000_000));
    Ok(())
}

/// The appliance's address and port of the cache.
fn place(appliance: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((appliance, 3142))
}
