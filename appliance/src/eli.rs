//! `eli`, the console client: the same REST API as the page, over TLS with a pinned certificate.
//!
//! Exit codes are those of `ending::Ending`; the reason is on stderr, and what to do next below it.

mod client;
mod complete;
mod confirm;
mod document;
mod ending;
mod erase;
mod history;
mod install;
mod list;
mod login;
mod logins;
mod man;
mod networks;
mod nouns;
mod output;
mod package;
mod pin;
mod plan;
mod power;
mod query;
mod replay;
mod settings;
mod strips;
mod systems;
mod table;
mod tenants;
mod users;
mod wait;
mod watch;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCompleter;
use fleet::site::{Adopt, Policy};
use fleet::vm::Recover;
use serde_json::json;

use crate::api::Changed;
use crate::api::state::State;
use crate::api::vms::NewVm;
use client::Client;
use ending::{Ending, Own};
use output::Output;
use settings::Settings;

/// Speaks to an Elisandra appliance.
#[derive(Parser)]
#[command(name = "eli", version)]
struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: Command,
}

/// What is not given here is taken from `eli login`.
#[derive(Args)]
struct Access {
    /// https://ADDRESS of the appliance
    #[arg(long, global = true, env = "ELI_SERVER", hide_env_values = true)]
    server: Option<String>,
    /// Fingerprint of its certificate, as its screen shows it
    #[arg(long, global = true, env = "ELI_FINGERPRINT", hide_env_values = true)]
    fingerprint: Option<String>,
    /// Token of a session
    #[arg(long, global = true, env = "ELI_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// How to print lists
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Show it again whenever something changes, until it is interrupted
    #[arg(short, long, global = true)]
    watch: bool,
    /// Only show what would be done; what it is called is taken by eli apply
    #[arg(long, global = true)]
    plan: bool,
    /// Destroy without asking
    #[arg(short, long, global = true)]
    yes: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Log in; with --code, set the first password
    Login(login::Login),
    /// End the session
    Logout,
    /// Computers that were found
    Machines,
    /// Machines that carry VMs, and their room
    Hosts,
    /// Virtual machines
    Vms,
    /// Disks of VMs
    Volumes,
    /// What VMs and machines are made from, and how many are
    Images,
    /// Installed packages, and where they answer
    Services,
    /// Packages that the appliance keeps
    Packages,
    /// Nodes, and what they are assigned to
    Registry,
    /// Make a found machine a host, or install another system on it
    Adopt {
        #[command(flatten)]
        machines: nouns::Names,
        #[command(flatten)]
        how: nouns::HowInstalled,
    },
    /// Forget a machine, or delete a VM
    Delete(nouns::Names),
    /// Make, cancel or remove a VM
    #[command(subcommand)]
    Vm(Vm),
    /// Cancel or forget machines
    #[command(subcommand)]
    Machine(nouns::Machine),
    /// Drain hosts
    #[command(subcommand)]
    Host(nouns::Host),
    /// Cancel or remove services
    #[command(subcommand)]
    Service(nouns::Service),
    /// Remove packages
    #[command(subcommand)]
    Package(nouns::Package),
    /// Racks, and what stands in them
    #[command(subcommand)]
    Rack(nouns::Rack),
    /// Switches, and what is in their ports
    #[command(subcommand)]
    Switch(nouns::Switch),
    /// Installers of other systems
    #[command(subcommand)]
    Os(systems::Os),
    /// What machines can be installed with
    #[command(subcommand)]
    Profile(systems::ProfileVerb),
    /// Networks that machines are given addresses of
    #[command(subcommand)]
    Subnet(networks::SubnetVerb),
    /// Addresses that are kept for a MAC address
    #[command(subcommand)]
    Reservation(networks::ReservationVerb),
    /// Addresses that are given
    #[command(subcommand)]
    Lease(networks::LeaseVerb),
    /// Install a package from a .eli file, or one that is kept by its name
    Install(install::Install),
    /// Say what is in a .eli file; or of a thing, what is wanted and what is
    Show {
        /// A .eli file, or machine, host, vm, service, package, rack, switch, subnet
        what: String,
        #[arg(add = ArgValueCompleter::new(complete::names))]
        name: Option<String>,
    },
    /// Remove a service and its VM
    Remove(nouns::Remove),
    /// What happened to a machine, VM, service, package, or to the site
    Timeline {
        /// Id or name, or `site`
        #[arg(add = ArgValueCompleter::new(complete::names))]
        id: String,
        /// The last so many lines
        #[arg(long, default_value_t = 200)]
        limit: u32,
    },
    /// Say what a command would do, and do nothing: eli plan -- vm create web
    Plan(plan::Plan),
    /// Do exactly what a plan showed, or make the site like a document
    Apply(plan::Apply),
    /// Write the desired state as a document
    Export(document::Export),
    /// Find objects: eli query vms 'memory_mib > 512 && phase == "running"'
    Query(query::Query),
    /// The log: every event, since the first
    History(history::History),
    /// Position of the log, and the hash of the state that it comes to
    State {
        /// A position, an RFC 3339 time, or -2h
        #[arg(long, allow_hyphen_values = true)]
        at: Option<String>,
    },
    /// Carry out a log again: in memory, or on an appliance that is a rehearsal
    Replay(replay::Replay),
    /// Who may log in, and what each may do
    #[command(subcommand)]
    User(users::UserVerb),
    /// Who shares the site and sees only what is his
    #[command(subcommand)]
    Tenant(tenants::TenantVerb),
    /// Who is logged in
    #[command(subcommand)]
    Session(users::SessionVerb),
    /// The logins that BMCs are tried with
    #[command(subcommand)]
    Bmc(logins::BmcVerb),
    /// Tokens for programs
    #[command(subcommand)]
    Token(users::TokenVerb),
    /// Who you are, and what you may do
    Me,
    /// Write what somebody needs who is asked for help, without secrets
    Support {
        /// The archive, a .tar.gz; it must not be there yet
        #[arg(long)]
        out: PathBuf,
    },
    /// Change your own password
    Passwd(users::OwnPassword),
    /// Show or set which machines are adopted without asking, and whose SSH keys are let in
    Policy(SetPolicy),
    /// Write what a shell reads to complete commands and names: . <(eli completion bash)
    Completion { shell: complete::Shell },
    /// Write the manual page: eli man | man -l -
    Man,
}

#[derive(Subcommand)]
enum Vm {
    /// Make a VM
    Create {
        name: String,
        /// MiB
        #[arg(long, default_value_t = 512)]
        memory: u64,
        #[arg(long, default_value_t = 1)]
        cpus: u32,
        /// GiB
        #[arg(long, default_value_t = 4)]
        disk: u64,
        /// When its host is fenced, make it anew elsewhere: nothing on its disk is missed
        #[arg(long)]
        anew: bool,
        /// For a tenant; its name begins with TENANT- then
        #[arg(long)]
        tenant: Option<String>,
        /// Until it runs
        #[arg(long)]
        wait: bool,
        /// Give up watching after so many seconds
        #[arg(long, default_value_t = 1800)]
        timeout: u64,
    },
    /// Make it anew on another host, as its own is fenced and off; what is on its disk stays there
    Recover(nouns::Names),
    /// Stop its making or its removal
    Cancel(nouns::Names),
    /// Delete a VM with its disk; by force without its host's word
    #[command(alias = "delete")]
    Remove(nouns::Remove),
}

#[derive(Args)]
struct SetPolicy {
    /// Adopt only when a person says so
    #[arg(long)]
    ask: bool,
    /// Adopt machines whose disks are blank
    #[arg(long, conflicts_with = "ask")]
    blank: bool,
    /// Let in the keys of this file (lines as in authorized_keys) on every host and VM
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// Have hosts make an account for the appliance at their own BMCs: on or off
    #[arg(long, value_name = "ON|OFF", value_parser = BoolishValueParser::new())]
    bmc_accounts: Option<bool>,
}

/// Runs one command; what was learned by `eli login` is kept in the file `settings`.
pub fn run(settings: PathBuf) -> ExitCode {
    complete::answer_shell(&settings);
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("eli: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(carry_out(arguments, &settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eli: {error:#}");
            if let Some(step) = ending::next_step(&error) {
                eprintln!("  -> {step}");
            }
            ExitCode::from(Ending::of(&error).code())
        }
    }
}

async fn carry_out(arguments: Arguments, settings_path: &Path) -> anyhow::Result<()> {
    let Arguments { access, command } = arguments;
    // These need no session.
    let command = match command {
        Command::Show { what, name: None } => return package::show(Path::new(&what), access.output),
        Command::Login(login) => return login::login(login, access, settings_path).await,
        Command::Completion { shell } => {
            print!("{}", complete::registration(shell)?);
            return Ok(());
        }
        Command::Man => return Ok(std::io::stdout().write_all(&man::page()?)?),
        command => command,
    };
    let client = client(&access, settings_path)?;
    if access.watch {
        if !watch::only_shows(&command) {
            Arguments::command()
                .error(ErrorKind::ArgumentConflict, "--watch is for what only shows something")
                .exit();
        }
        return watch::watch(&client, access.output, settings_path).await;
    }
    match command {
        Command::Plan(plan) => plan::plan(&client, plan, access.output, settings_path).await,
        Command::Apply(apply) => plan::apply(&client, apply, access.plan, settings_path).await,
        command if access.plan => plan::show(&client, command, None, access.output, settings_path).await,
        command if !access.yes && confirm::destroys(&command) => {
            if !confirm::wanted(&client, command, settings_path).await? {
                return Ok(());
            }
            give(&client, Arguments::parse().command, access.output, settings_path).await
        }
        command => give(&client, command, access.output, settings_path).await,
    }
}

/// What needs a session.
async fn give(client: &Client, command: Command, output: Output, settings_path: &Path) -> anyhow::Result<()> {
    match command {
        Command::Show { what, name: Some(name) } => query::show(client, &what, &name, output).await,
        Command::Show { .. } | Command::Login(_) | Command::Completion { .. } | Command::Man => Ok(()),
        Command::Plan(_) => anyhow::bail!("a plan cannot be planned"),
        Command::Apply(_) => anyhow::bail!("a plan cannot be planned; eli apply --plan compares a document"),
        Command::Export(export) => document::export(client, &export).await,
        Command::Query(query) => query::query(client, &query, output).await,
        Command::History(history) => history::history(client, history, output).await,
        Command::State { at } => history::state(client, at.as_deref(), output).await,
        Command::Replay(replay) => replay::replay(client, replay, settings_path).await,
        Command::Logout => login::logout(client, settings_path).await,
        Command::Machines => list::machines(&client.list("/machines").await?, output),
        Command::Hosts => list::hosts(&client.list("/hosts").await?, output),
        Command::Vms => list::vms(&client.list("/vms").await?, output),
        Command::Volumes => list::volumes(&client.list("/volumes").await?, output),
        Command::Images => list::images(&client.list("/images").await?, output),
        Command::Services => list::services(&client.list("/services").await?, output),
        Command::Packages => list::packages(&client.list("/packages").await?, output),
        Command::Registry => list::registry(&client.get("/state").await?, output),
        Command::Adopt { machines, how } => {
            nouns::each(machines, async |machine| adopt(client, machine, &how).await).await
        }
        Command::Delete(names) => nouns::each(names, async |name| delete(client, name).await).await,
        Command::Vm(Vm::Create { name, memory, cpus, disk, anew, tenant, wait, timeout }) => {
            let recover = if anew { Recover::Anew } else { Recover::Wait };
            let new = NewVm { name, memory_mib: memory, vcpus: cpus, disk_gib: disk, recover, tenant };
            let created: Changed = client.send("POST", "/vms", &new).await?;
            say(&created);
            match created.id {
                Some(id) if wait => wait::until_running(client, &id, Duration::from_secs(timeout)).await,
                _ => Ok(()),
            }
        }
        Command::Vm(Vm::Recover(names)) => nouns::post(client, names, "vms", "recover").await,
        Command::Vm(Vm::Cancel(names)) => nouns::post(client, names, "vms", "cancel").await,
        Command::Vm(Vm::Remove(remove)) => nouns::remove(client, remove, "vms").await,
        Command::Machine(verb) => nouns::machine(client, verb, output).await,
        Command::Host(verb) => nouns::host(client, verb).await,
        Command::Service(verb) => nouns::service(client, verb).await,
        Command::Package(verb) => nouns::package(client, verb).await,
        Command::Rack(verb) => nouns::rack(client, verb, output).await,
        Command::Switch(verb) => nouns::switch(client, verb, output).await,
        Command::Os(verb) => systems::os(client, verb, output).await,
        Command::Profile(verb) => systems::profile(client, verb, output).await,
        Command::Subnet(verb) => networks::subnet(client, verb, output).await,
        Command::Reservation(verb) => networks::reservation(client, verb, output).await,
        Command::Lease(verb) => networks::lease(client, verb, output).await,
        Command::Install(install) => install::install(client, install).await,
        Command::Remove(remove) => nouns::remove(client, remove, "services").await,
        Command::Timeline { id, limit } => {
            list::timeline(&client.list(&format!("/timeline/{id}?limit={limit}")).await?, output)?;
            // A script's JSON is the lines alone.
            if output == Output::Table { list::trouble(client, &id).await } else { Ok(()) }
        }
        Command::User(verb) => users::user(client, verb, output).await,
        Command::Tenant(verb) => tenants::tenant(client, verb, output).await,
        Command::Session(verb) => users::session(client, verb, output).await,
        Command::Bmc(verb) => logins::bmc(client, verb, output).await,
        Command::Token(verb) => users::token(client, verb).await,
        Command::Me => users::me(client, output).await,
        Command::Support { out } => {
            let bytes = client.download("/support", &out).await?;
            println!("{}: {bytes} bytes, without passwords, keys and tokens", out.display());
            Ok(())
        }
        Command::Passwd(own) => users::passwd(client, own).await,
        Command::Policy(set) => policy(client, set, output).await,
    }
}

impl Access {
    /// Where no options are given.
    fn from_environment() -> Access {
        let arguments = Arguments::try_parse_from(["eli", "me"]);
        arguments.map_or_else(|error| error.exit(), |arguments| arguments.access)
    }
}

/// From the options and the environment; what is missing, from the last `eli login`.
fn client(access: &Access, settings_path: &Path) -> anyhow::Result<Client> {
    let settings = Settings::read(settings_path)?;
    let kept = settings.as_ref();
    let server = access.server.clone().or_else(|| kept.map(|kept| kept.server.clone()));
    let unknown = || Own::NotLoggedIn("which appliance? eli login https://ADDRESS".to_owned());
    let server = client::address(&server.ok_or_else(unknown)?)?;
    // A token belongs to the server that gave it.
    let kept = kept.filter(|kept| kept.server == server);
    let fingerprint = access.fingerprint.clone().or_else(|| kept.map(|kept| kept.fingerprint.clone()));
    let fingerprint = fingerprint
        .ok_or_else(|| Own::NotLoggedIn(format!("{server} is not known here; eli login {server}")))?;
    let token = access.token.clone().or_else(|| kept.map(|kept| kept.token.clone()));
    let token =
        token.ok_or_else(|| Own::NotLoggedIn(format!("you are not logged in; eli login {server}")))?;
    Client::new(server, fingerprint.parse()?, Some(token))
}

async fn adopt(client: &Client, id: &str, how: &nouns::HowInstalled) -> anyhow::Result<Changed> {
    let nouns::HowInstalled { wipe, profile, disk } = how;
    let machines: Vec<crate::api::machines::Machine> = client.list("/machines").await?;
    let machine = machines.iter().find(|machine| machine.id.to_string() == id || machine.name == id);
    let question = machine.and_then(|machine| machine.question.as_ref());
    let serials = match question {
        _ if *wipe && disk.is_some() => disk.iter().cloned().collect(),
        Some(question) if *wipe => vec![question.serial.clone()],
        _ => Vec::new(),
    };
    let order = json!({ "wipe": serials, "profile": profile, "disk": disk });
    let done = client.send("POST", &format!("/machines/{id}/adopt"), &order).await;
    if question.is_some() && disk.is_none() && !wipe {
        return done.with_context(|| format!("eli adopt {id} --wipe wipes it"));
    }
    done
}

async fn delete(client: &Client, id: &str) -> anyhow::Result<Changed> {
    let state: State = client.get("/state").await?;
    let machine = state.machines.iter().any(|machine| machine.id.to_string() == id || machine.name == id);
    let vm = state.vms.iter().any(|vm| vm.id.to_string() == id || vm.name == id);
    anyhow::ensure!(!(machine && vm), "{id} is the name of a machine and of a VM; say which by its id");
    let noun = if vm { "vms" } else { "machines" };
    client.delete(&format!("/{noun}/{}", nouns::segment(id))).await
}

async fn policy(client: &Client, set: SetPolicy, output: Output) -> anyhow::Result<()> {
    let mut policy: Policy = client.get("/policy").await?;
    let before = policy.clone();
    if set.ask || set.blank {
        policy.adopt = if set.ask { Adopt::Ask } else { Adopt::Blank };
    }
    policy.bmc_accounts = set.bmc_accounts.unwrap_or(policy.bmc_accounts);
    for path in &set.ssh_key {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if !policy.ssh_keys.iter().any(|known| known == line) {
                policy.ssh_keys.push(line.to_owned());
            }
        }
    }
    if policy != before {
        say(&client.send("PUT", "/policy", &policy).await?);
    }
    list::policy(&policy, output)
}

fn say(changed: &Changed) {
    for sentence in &changed.changed {
        println!("{sentence}");
    }
    if changed.changed.is_empty() {
        println!("Nothing had to be changed");
    }
}
