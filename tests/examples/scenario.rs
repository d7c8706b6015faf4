//! Runs scenarios of the simulator, each a file or the seed of a random one, and prints what happened.

use std::process::ExitCode;

use tests::sim;

fn main() -> ExitCode {
    let mut failed = false;
    for what in std::env::args().skip(1) {
        let (script, seed) = match what.parse() {
            Ok(seed) => (sim::script(seed), seed),
            Err(_) => match std::fs::read_to_string(&what) {
                Ok(script) => (script, 1),
                Err(error) => {
                    eprintln!("{what}: {error}");
                    return ExitCode::FAILURE;
                }
            },
        };
        match sim::run(&script, seed) {
            Ok(world) => println!("{what}: as it says\n\n{script}\n{}", world.timeline()),
            Err(failure) => {
                failed = true;
                println!("{what}: FAILED\n\n{failure}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
