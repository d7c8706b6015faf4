//! The simulator's scenarios, its random runs, and the seeds that once failed. docs/simulator.md says how to rerun one.

use std::path::{Path, PathBuf};

use tests::sim;

/// Random runs of each of the tests below; `ELISANDRA_RUNS` sets another number.
const RUNS: u64 = 500;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn every_scenario_ends_as_it_says() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt") && !path.ends_with("seeds.txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failed = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        if let Err(failure) = sim::run(&text, 1) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            println!("── {name}\n{failure}");
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} of {} scenarios failed: {failed:?}", failed.len(), paths.len());
}

fn run_seed(seed: u64) {
    if let Err(failure) = sim::run(&sim::script(seed), seed) {
        panic!(
            "{failure}\nseed {seed} failed: {}\nrerun it: cargo run -p tests --example scenario -- {seed}",
            failure.reason
        );
    }
}

fn random_runs(part: u64) {
    let runs = std::env::var("ELISANDRA_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    for seed in part * 1_000_000..part * 1_000_000 + runs {
        run_seed(seed);
    }
}

#[test]
fn random_runs_1() {
    random_runs(1);
}

#[test]
fn random_runs_2() {
    random_runs(2);
}

#[test]
fn random_runs_3() {
    random_runs(3);
}

#[test]
fn random_runs_4() {
    random_runs(4);
}

#[test]
fn seeds_that_once_failed() {
    let seeds = std::fs::read_to_string(folder().join("seeds.txt")).unwrap();
    for line in seeds.lines() {
        let number = line.split('#').next().unwrap_or_default().trim();
        if !number.is_empty() {
            run_seed(number.parse().unwrap());
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let seed = 4_711;
    let run = || sim::run(&sim::script(seed), seed).map_err(|failure| failure.to_string()).unwrap();
    let (one, again) = (run(), run());
    assert_eq!(one.timeline(), again.timeline());
    assert_eq!(one.log(), again.log());
    assert!(one.log().len() > 1000, "nothing happened");
}
