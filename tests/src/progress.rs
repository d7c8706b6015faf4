//! What the lab tells the person who waits: one line per step with its seconds,
//! and on a terminal a line that moves meanwhile.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Clone)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Counts from now.
    pub fn start() -> Progress {
        Progress { start: Instant::now() }
    }

    pub fn say(&self, text: impl Display) {
        println!("{:>7}  {text}", seconds(self.start.elapsed()));
    }

    /// Carries out a step that takes a while; says what it is at once and, when
    /// it has succeeded, how long it took.
    pub fn during<T>(&self, text: impl Display, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let bar = ProgressBar::new_spinner();
        // The template is constant and valid.
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>7}  {msg} {spinner}") {
            bar.set_style(style);
        }
        bar.set_message(text.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        let begin = Instant::now();
        let result = step();
        bar.finish_and_clear();
        match &result {
            Ok(_) => self.say(format_args!("{text}: {}", seconds(begin.elapsed()))),
            Err(_) => self.say(format_args!("{text}: failed after {}", seconds(begin.elapsed()))),
        }
        result
    }
}

pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
