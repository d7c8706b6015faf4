//! How lists and single things are printed: tables for people, documents and names for scripts.

use clap::ValueEnum;
use serde::Serialize;

use super::table::plain;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Yaml,
    /// One name a line, for pipes
    Names,
}

impl Output {
    /// Prints a list as it is wanted; false if a table is.
    pub fn list<T: Serialize>(self, things: &[T], name: impl Fn(&T) -> String) -> anyhow::Result<bool> {
        match self {
            Output::Table => return Ok(false),
            Output::Names => things.iter().for_each(|thing| println!("{}", plain(&name(thing)))),
            Output::Json | Output::Yaml => self.document(things)?,
        }
        Ok(true)
    }

    /// As [`Output::list`], of one thing.
    pub fn one<T: Serialize>(self, thing: &T, name: &str) -> anyhow::Result<bool> {
        match self {
            Output::Table => return Ok(false),
            Output::Names => println!("{}", plain(name)),
            Output::Json | Output::Yaml => self.document(thing)?,
        }
        Ok(true)
    }

    /// Prints what has no table: YAML if it is wanted, JSON otherwise.
    pub fn document(self, thing: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
        match self {
            Output::Yaml => print!("{}", serde_saphyr::to_string(&serde_json::to_value(thing)?)?),
            Output::Table | Output::Json | Output::Names => {
                println!("{}", serde_json::to_string_pretty(thing)?);
            }
        }
        Ok(())
    }
}
