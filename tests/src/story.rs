//! Stories: what a user does and sees, told by real machines.
//!
//! A story is a list of chapters that happen in one world, one after the other;
//! each is a check that passes or fails. After one that failed, the rest of its
//! story cannot be told and counts as failed.

pub mod accidents;
pub mod fence;
pub mod memory;
pub mod path;

use anyhow::Result;

use crate::world::World;

pub struct Story {
    pub name: &'static str,
    pub about: &'static str,
    pub chapters: &'static [Chapter],
}

pub struct Chapter {
    pub name: &'static str,
    pub tell: fn(&mut World) -> Result<()>,
}

/// In the order in which they are told: the shortest first.
pub const STORIES: [&Story; 2] = [&memory::STORY, &path::STORY];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
}

impl Story {
    pub fn tell(&self, world: &mut World) -> Count {
        let progress = world.progress.clone();
        progress.say(format_args!("Story {}: {}", self.name, self.about));
        for (number, chapter) in self.chapters.iter().enumerate() {
            match (chapter.tell)(world) {
                Ok(()) => progress.say(format_args!("passed: {}", chapter.name)),
                Err(error) => {
                    progress.say(format_args!("FAILED: {}: {error:#}", chapter.name));
                    println!("{}", world.evidence());
                    for untold in &self.chapters[number + 1..] {
                        progress.say(format_args!("FAILED: {}: not reached", untold.name));
                    }
                    return Count { passed: number, failed: self.chapters.len() - number };
                }
            }
        }
        Count { passed: self.chapters.len(), failed: 0 }
    }
}
