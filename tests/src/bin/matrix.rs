//! Boots every kind of firmware and card from the boot servers, and counts.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use pxe::MacAddr;
use pxe::dhcp::Mode;
use tests::accelerator::Accelerator;
use tests::interrupt;
use tests::lab::{self, Lab};
use tests::matrix::network::{self, Foreign, Lan};
use tests::matrix::{self, Products, Side, cases, payload};

#[derive(Parser)]
#[command(about = "Boots machines of every kind over the network; ends with 'N passed, N failed'")]
struct Arguments {
    /// Only cases with this in their name
    only: Option<String>,
    /// Folder with vmlinuz and the folder `loaders`
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Folder for machines and serial logs
    #[arg(long, env = "ELISANDRA_LAB", default_value = "out/lab")]
    lab: PathBuf,
    /// Instead: boot from ours and from dnsmasq in turn, so many times, one machine at a time
    #[arg(long, value_name = "ROUNDS")]
    bench: Option<u32>,
    /// Machines that boot at the same time
    #[arg(long, default_value_t = 2)]
    at_once: usize,
}

fn bench(arguments: &Arguments, lab: &Lab, lans: [(Side, Lan); 6], rounds: u32) -> Result<ExitCode> {
    let [.., whole] = lans;
    let peer = Lan::bare(4)?;
    let mut pairs = cases::bench();
    if let Some(only) = &arguments.only {
        pairs.retain(|(name, _)| name.contains(only.as_str()));
    }
    let address = Ipv4Addr::new(10, 81, 0, 2);
    let folder = lab.folder.join("products/peer");
    payload::peer(&arguments.out, &folder, address)?;
    let machines: Vec<MacAddr> = pairs.iter().map(|(_, [case, _])| MacAddr(case.spec.nics[0].mac)).collect();
    let mut dnsmasq = Foreign::start(&peer, &machines, &payload::peer_options(&folder, address))?;
    dnsmasq.serve(&folder)?;
    matrix::bench(&pairs, lab, &[whole, (Side::Peer, peer)], rounds)?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    network::enter_namespace()?;
    interrupt::on_interrupt(|| {
        lab::clean_up();
        std::process::exit(130);
    })?;
    let lab = Lab::open(&arguments.lab.join("matrix"), Accelerator::probe(&arguments.out.join("vmlinuz"))?)?;
    let products = Products::make(&arguments.out, &lab.folder.join("products"))?;
    let mut cases = cases::all(&products);
    if let Some(only) = &arguments.only {
        cases.retain(|case| case.name.contains(only.as_str()));
        if cases.is_empty() {
            bail!("no case has {only:?} in its name");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let lans = [
        (Side::Ours, Lan::start(0, Mode::Full, &products.tiny, &products.loaders)?),
        (Side::Forged, Lan::start(1, Mode::Full, &products.tiny, &products.forged)?),
        (Side::Beside, Lan::start(2, Mode::Proxy, &products.tiny, &products.loaders)?),
        (Side::Six, Lan::six(5, &products.tiny, &products.loaders)?),
        (Side::Https, Lan::https(6, &products)?),
        (Side::Whole, Lan::start(3, Mode::Full, &arguments.out.canonicalize()?, &products.loaders)?),
    ];
    if let Some(rounds) = arguments.bench {
        return bench(&arguments, &lab, lans, rounds);
    }
    let beside = cases.iter().filter(|case| case.lan == Side::Beside);
    let beside: Vec<MacAddr> = beside.map(|case| MacAddr(case.spec.nics[0].mac)).collect();
    let _dnsmasq = Foreign::start(&lans[2].1, &beside, &[])?;
    let (passed, failed) = matrix::run(cases, &lab, &lans, arguments.at_once);
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
