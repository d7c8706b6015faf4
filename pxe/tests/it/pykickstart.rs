//! Anaconda's own validator, installed from PyPI into the cache on first use.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const VERSION: &str = "3.78";

/// Panics with the validator's words when it does not accept `file`.
pub fn ksvalidator(version: &str, file: &Path) {
    let output = Command::new(installed()).args(["-v", version]).arg(file).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ksvalidator -v {version} refuses the file: {said}");
    // It exits with 0 after warnings too.
    assert!(!said.to_lowercase().contains("warning"), "ksvalidator -v {version} warns: {said}");
}

/// Every version of kickstart that the validator knows: `F43`, `RHEL9`, `DEVEL`.
#[allow(dead_code, reason = "each test program uses its part")]
pub fn versions() -> Vec<String> {
    let output = Command::new(installed()).arg("-l").output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn installed() -> PathBuf {
    let cache = match env::var_os("ELISANDRA_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache/elisandra"),
    };
    let venv = cache.join(format!("pykickstart/{VERSION}"));
    let program = venv.join("bin/ksvalidator");
    // Tests run at once, each in its own process: one of them installs, the others wait.
    fs::create_dir_all(&venv).unwrap();
    let lock = fs::File::create(venv.join("lock")).unwrap();
    lock.lock().unwrap();
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &format!("pykickstart=={VERSION}"),
        ]));
    }
    program
}

fn run(command: &mut Command) {
    let output = command.output();
    let failed = match output {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    panic!(
        "Anaconda's validator is needed for this test and could not be installed from PyPI (Debian: apt-get install python3-venv, and a way to PyPI): {command:?}: {failed}"
    );
}
