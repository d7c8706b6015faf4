//! Tells the stories of crate `tests` with real machines, and counts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::accelerator::Accelerator;
use tests::bench;
use tests::interrupt;
use tests::lab::{self, Lab};
use tests::progress::Progress;
use tests::story::{Count, STORIES, Story, path};
use tests::world::{Products, World};

#[derive(Parser)]
#[command(about = "Tells what a user does and sees, with real firmware; ends with 'N passed, N failed'")]
struct Arguments {
    /// Which stories: memory, path; all of them if none is named
    stories: Vec<String>,
    /// Folder with elisandra.iso and what else was built
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Folder with the program eli
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Folder for machines, disks and serial logs
    #[arg(long, env = "ELISANDRA_LAB", default_value = "out/lab")]
    lab: PathBuf,
    /// Tell the path one machine at a time and write its table here
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let stories = chosen(&arguments.stories)?;
    let accelerator = Accelerator::probe(&arguments.out.join("vmlinuz"))?;
    interrupt::on_interrupt(|| {
        lab::clean_up();
        std::process::exit(130);
    })?;
    let mut total = Count::default();
    for story in stories {
        let count = tell(story, &arguments, &accelerator)?;
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Story>> {
    if names.is_empty() {
        return Ok(STORIES.to_vec());
    }
    let find = |name: &String| STORIES.into_iter().find(|story| story.name == name);
    names.iter().map(|name| find(name).with_context(|| format!("there is no story {name:?}"))).collect()
}

fn tell(story: &Story, arguments: &Arguments, accelerator: &Accelerator) -> Result<Count> {
    if !arguments.out.join("elisandra.iso").exists() {
        bail!("{} is not there; make iso builds it", arguments.out.join("elisandra.iso").display());
    }
    let lab = Lab::open(&arguments.lab.join(story.name), accelerator.clone())?;
    let products = Products { out: arguments.out.clone(), binaries: arguments.binaries.clone() };
    let measured = arguments.bench.as_deref().filter(|_| story.name == "path");
    let story = if measured.is_some() { &path::MEASURED } else { story };
    let mut world = World::new(lab, products, Progress::start(), measured.is_some());
    let count = story.tell(&mut world);
    if count.failed == 0 && story.name == "path" {
        report(&world, measured, accelerator)?;
    }
    Ok(count)
}

fn report(world: &World, to: Option<&Path>, accelerator: &Accelerator) -> Result<()> {
    let table = bench::table(world)?;
    println!("\n{table}\nunder {accelerator}");
    match to {
        Some(path) => bench::write(path, &table, accelerator),
        None => Ok(()),
    }
}
