//! Boots every kind of firmware and card from the boot servers, and counts.

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
use tests::matrix::{self, Products, Side, cases};

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
    /// Machines that boot at the same time
    #[arg(long, default_value_t = 2)]
    at_once: usize,
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
        (Side::Whole, Lan::start(3, Mode::Full, &arguments.out.canonicalize()?, &products.loaders)?),
    ];
    let beside = cases.iter().filter(|case| case.lan == Side::Beside);
    let beside: Vec<MacAddr> = beside.map(|case| MacAddr(case.spec.nics[0].mac)).collect();
    let _dnsmasq = Foreign::start(&lans[2].1, &beside, &[])?;
    let (passed, failed) = matrix::run(cases, &lab, &lans, arguments.at_once);
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
