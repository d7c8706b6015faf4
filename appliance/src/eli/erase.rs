//! `eli machine erase`, `eli machine erasure`: what is on disks goes, and what shows it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use serde_json::json;

use super::Output;
use super::client::Client;
use super::complete;
use super::nouns::{Names, each, segment};
use super::table::plain;
use crate::api::erase::Signed;
use crate::certificate::{Certificate, Disk};

#[derive(Args)]
pub struct Erase {
    #[command(flatten)]
    names: Names,
    /// Serial or path of a disk; may be given again. All that are built in, if none is named
    #[arg(long)]
    disk: Vec<String>,
    #[arg(long, value_enum, default_value_t = How::Auto)]
    method: How,
    /// Retire it when all of them are erased
    #[arg(long)]
    retire: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// The best that each disk can do by itself, and if it can do nothing, writing over it
    Auto,
    /// The disk is told that nothing on it is needed
    Discard,
    /// NVMe alone: the disk makes itself new
    Format,
    /// Zeroes over every block
    Overwrite,
}

#[derive(Args)]
pub struct Erasure {
    /// Id or name; the id alone of a machine that was removed
    #[arg(add = ArgValueCompleter::new(complete::names))]
    name: String,
    /// Writes each certificate, its signature and the authority's certificate into this folder
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
}

pub async fn erase(client: &Client, Erase { names, disk, method, retire }: Erase) -> anyhow::Result<()> {
    let method = method.to_possible_value().context("a method without a name")?.get_name().to_owned();
    let order = json!({ "disks": disk, "method": method, "retire": retire });
    each(names, async |name| client.send("POST", &format!("/machines/{}/erase", segment(name)), &order).await)
        .await
}

pub async fn show(client: &Client, Erasure { name, save }: Erasure, output: Output) -> anyhow::Result<()> {
    let signed: Vec<Signed> = client.get(&format!("/machines/{}/erasures", segment(&name))).await?;
    if let Some(folder) = save {
        return keep(&folder, &signed);
    }
    let certificates: Vec<&Certificate> = signed.iter().map(|signed| &signed.certificate).collect();
    if output.list(&certificates, |certificate| certificate.number.to_string())? {
        return Ok(());
    }
    if certificates.is_empty() {
        println!("Nothing of {name} was erased");
    }
    for certificate in certificates {
        lines(certificate).iter().for_each(|line| println!("{}", plain(line)));
    }
    Ok(())
}

fn lines(certificate: &Certificate) -> Vec<String> {
    let Certificate { number, machine, ordered_by, ordered_at, ended_at, complete, disks, .. } = certificate;
    let from = certificate.ordered_from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let stands = match (complete, ended_at) {
        (true, Some(ended)) => format!("every disk is erased, ended {ended}"),
        (false, Some(ended)) => format!("not every disk is erased, ended {ended}"),
        (_, None) => "has not come to its end".to_owned(),
    };
    let mut lines = vec![
        format!("{number}  {} ({}), ordered {ordered_at} by {ordered_by}{from}", machine.name, machine.id),
        format!("    {stands}"),
    ];
    for Disk { path, model, serial, bytes, means, level, verified, error, .. } in disks {
        let model = model.as_deref().unwrap_or("a disk");
        let serial = serial.as_deref().unwrap_or("without serial number");
        lines.push(format!("    {path}  {model} {serial}, {bytes} bytes"));
        match (verified, error) {
            (Some(verified), _) => {
                lines.push(format!("        {} (level: {})", means.join(", then "), level.word()));
                lines.push(format!("        {verified}"));
            }
            (None, Some(error)) => lines.push(format!("        not erased; {error}")),
            (None, None) => lines.push("        not erased".to_owned()),
        }
    }
    lines
}

/// Files that can be checked without us.
fn keep(folder: &Path, signed: &[Signed]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
        anyhow::Ok(())
    };
    for Signed { certificate, document, signature, authority } in signed {
        let name = format!("erasure-{}-{}", certificate.machine.id, certificate.number);
        write(format!("{name}.json"), document.as_bytes())?;
        let signature = STANDARD.decode(signature).context("the signature is not base64")?;
        write(format!("{name}.sig"), &signature)?;
        write("authority.pem".to_owned(), authority.as_bytes())?;
    }
    Ok(())
}
