//! One readable line for each step, with the seconds that it took.

use std::{
    io::{self, Write},
    time::Instant,
};

use anyhow::{Context, Result};

/// Runs `work`, saying what is being done before and how long it took after. Errors name the step.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    print!("iso: {name} … ");
    flush();
    match work() {
        Ok(value) => {
            println!("{:.1} s", started.elapsed().as_secs_f64());
            Ok(value)
        }
        Err(error) => {
            println!("failed after {:.1} s", started.elapsed().as_secs_f64());
            Err(error).with_context(|| format!("step `{name}`"))
        }
    }
}

/// Says that a step had nothing to do.
pub fn unchanged(name: &str) {
    println!("iso: {name} … unchanged");
}

fn flush() {
    // Output that nobody reads is no reason to stop a build.
    let _ = io::stdout().flush();
}
