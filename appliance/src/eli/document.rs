//! Documents as files: TOML, YAML or JSON.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use fleet::document::Document;

use super::client::Client;

#[derive(Args)]
pub struct Export {
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// TOML, if the file's name does not say otherwise
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    fn of(path: &Path) -> Format {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("yaml" | "yml") => Format::Yaml,
            Some("json") => Format::Json,
            Some(_) | None => Format::Toml,
        }
    }
}

pub async fn export(client: &Client, export: &Export) -> anyhow::Result<()> {
    let document: Document = client.get("/document").await?;
    let format = export.format.or_else(|| export.out.as_deref().map(Format::of)).unwrap_or(Format::Toml);
    let text = write(&document, format)?;
    match &export.out {
        Some(out) => std::fs::write(out, text).with_context(|| format!("writing {}", out.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// A document from a file, or from standard input for `-`. What is wrong is named with its line and key.
pub fn read(what: &str, format: Option<Format>) -> anyhow::Result<Document> {
    let mut text = String::new();
    if what == "-" {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(what).with_context(|| format!("reading {what}"))?;
    }
    let format = format.unwrap_or_else(|| Format::of(Path::new(what)));
    parse(&text, format).with_context(|| format!("{what} is not a document"))
}

fn parse(text: &str, format: Format) -> anyhow::Result<Document> {
    match format {
        Format::Toml => toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end())),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}")),
        Format::Json => serde_json::from_str(text).map_err(Into::into),
    }
}

fn write(document: &Document, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Toml => toml::to_string(document)?,
        Format::Yaml => serde_saphyr::to_string(document)?,
        Format::Json => serde_json::to_string_pretty(document)? + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"[policy]
adopt = "ask"

[[rack]]
name = "a1"
units = 42

[[switch]]
name = "core"
rack = "a1"
unit = 42
ports = ["1", "2"]

[switch.plugged.1]
is = "nic"
mac = "52:54:00:00:00:01"

[[machine]]
name = "host-1"
adopt = true

[[vm]]
name = "web"
memory_mib = 512
"#;

    #[test]
    fn a_document_says_the_same_in_every_format() {
        let document = parse(TOML, Format::Toml).unwrap();
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            let text = write(&document, format).unwrap();
            assert_eq!(parse(&text, format).unwrap(), document, "{text}");
        }
        assert_eq!(write(&document, Format::Toml).unwrap(), TOML);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_key() {
        let yaml = write(&parse(TOML, Format::Toml).unwrap(), Format::Yaml).unwrap();
        for (text, format) in [
            (TOML.replace("memory_mib", "memory"), Format::Toml),
            (TOML.replace("= 512", "= \"much\""), Format::Toml),
            (yaml.replace("memory_mib", "memory"), Format::Yaml),
        ] {
            let line = 1 + text.lines().position(|line| line.contains("memory")).unwrap();
            let error = parse(&text, format).unwrap_err().to_string();
            assert!(error.contains("memory") && error.contains(&line.to_string()), "{error}");
        }
    }
}
