//! cloud-init's NoCloud data, the part of it that we write: `user-data` is a cloud-config in JSON, which is YAML too, so
//! that an image with cloud-init reads the same volume.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use nix::mount::MsFlags;
use serde::Deserialize;

use crate::labels;
use crate::mounts;
use crate::places::{NodeFacts, RUN};

const LABEL: &str = "CIDATA";

/// What a guest is told before it can ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeedData {
    pub hostname: String,
    #[serde(default)]
    pub ssh_authorized_keys: Vec<String>,
    /// Ignored by cloud-init.
    pub elisandra: NodeFacts,
}

/// Reads the volume labelled CIDATA; `None` when there is none.
pub fn find() -> anyhow::Result<Option<SeedData>> {
    let Some(device) = labels::find(LABEL).into_iter().next() else { return Ok(None) };
    let place = Path::new(RUN).join("seed");
    mounts::device(&device, "vfat", &place, MsFlags::MS_RDONLY)?;
    let text = fs::read_to_string(place.join("user-data"));
    mounts::unmount(&place)?;
    parse(&text.context("reading user-data")?).map(Some)
}

fn parse(user_data: &str) -> anyhow::Result<SeedData> {
    let Some(body) = user_data.strip_prefix("#cloud-config") else {
        bail!("user-data does not begin with #cloud-config");
    };
    serde_json::from_str(body).context("user-data is not a cloud-config written as JSON")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_appliances_user_data_is_read() {
        let text = "#cloud-config\n{\"hostname\":\"hello-1\",\"ssh_authorized_keys\":[\"ssh-ed25519 AAAA\"],\
            \"elisandra\":{\"appliance\":\"10.77.0.1\",\"ca_sha256\":\"ab\",\"enrollment\":\"secret\"}}\n";
        assert_eq!(
            parse(text).unwrap(),
            SeedData {
                hostname: "hello-1".to_owned(),
                ssh_authorized_keys: vec!["ssh-ed25519 AAAA".to_owned()],
                elisandra: NodeFacts {
                    appliance: Ipv4Addr::new(10, 77, 0, 1),
                    ca_sha256: "ab".to_owned(),
                    enrollment: Some("secret".to_owned())
                },
            }
        );
    }

    #[test]
    fn somebody_elses_seed_is_said_to_be_none_of_ours() {
        for (text, said) in [
            ("#!/bin/sh\nreboot\n", "user-data does not begin with #cloud-config"),
            ("#cloud-config\nhostname: a\n", "user-data is not a cloud-config written as JSON"),
            ("#cloud-config\n{\"hostname\":\"a\"}", "user-data is not a cloud-config written as JSON"),
            ("", "user-data does not begin with #cloud-config"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), said);
        }
    }
}
