//! The command line of `elisandra netboot`, and what it comes to on an interface.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::{Ipv4Net, Ipv6Net};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::pool::Range;

/// Examples stand at the end of `--help`.
pub const EXAMPLES: &str = "\
A profile is a small TOML file, debian.toml:
  title = \"Debian 13 installer\"
  kernel = \"debian/linux\"                  # beside it in FOLDER, or in --files
  initrds = [\"debian/initrd.gz\"]
  command_line = \"auto=true priority=critical url=http://{server}/boot/files/debian/preseed.cfg\"
  [match]
  mac = [\"52:54:00:12:34:56\"]              # or uuid = \"…\", or arch = \"bios\", \"uefi\", \"arm64\"
default.toml is for every machine that no other profile matches; without it they boot their own disks.
Instead of a kernel: efi = \"FILE\", or ipxe and grub = \"\"\"texts\"\"\", or boot = \"disk\", boot = \"memory-test\".

Examples:
  Look who serves DHCP on eth1. If somebody does, add what firmware needs to boot (ProxyDHCP);
  if nobody does, give addresses of eth1's network as well:
    elisandra netboot --interface eth1 ./boot

  Give these addresses, a default route and a name server:
    elisandra netboot --interface eth1 --range 10.0.0.100-10.0.0.199 --router 10.0.0.1 --dns 9.9.9.9 ./boot

  Every machine gets the Debian installer:
    elisandra netboot --interface eth1 --default debian ./boot";

/// Boots the machines of one network from a folder of profiles: DHCP or ProxyDHCP, TFTP and HTTP in one process,
/// without a database or accounts. Needs root.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// Profiles (NAME.toml), and the files that they name; everybody on the network can read these over HTTP.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
    /// The interface of the network to serve; it needs an address of its own.
    #[arg(long, value_name = "IF")]
    pub interface: String,
    /// Give these addresses to machines: 10.0.0.100-10.0.0.199.
    #[arg(long, value_name = "A-B", conflicts_with = "proxy")]
    pub range: Option<Range>,
    /// Give the addresses of this network to machines: 10.0.0.0/24. It is the interface's own, or a part of it.
    #[arg(long, value_name = "CIDR", conflicts_with_all = ["range", "proxy"])]
    pub network: Option<Ipv4Net>,
    /// Give no addresses, only what firmware needs to boot; another DHCP server gives the addresses.
    #[arg(long)]
    pub proxy: bool,
    /// How long to listen for another DHCP server before anything is served.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(..=600))]
    pub listen_secs: u64,
    /// The default route that machines are told; without it none.
    #[arg(long, value_name = "ADDRESS")]
    pub router: Option<Ipv4Addr>,
    /// The name servers that machines are told; may be given several times.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub dns: Vec<Ipv4Addr>,
    /// The domain that machines are told.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub domain: String,
    /// How long a machine may use its address before it asks again.
    #[arg(long, value_name = "SECONDS", default_value_t = 12 * 3600, value_parser = clap::value_parser!(u32).range(120..=31_536_000))]
    pub lease_secs: u32,
    /// The IPv6 network of the machines, where DHCPv6 is served: fd00:1::/64.
    #[arg(long, value_name = "CIDR")]
    pub network6: Option<Ipv6Net>,
    /// Kernels, initial RAM disks and whatever machines load, at /boot/files/; without it FOLDER.
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    /// undionly.kpxe, shimx64.efi, grubnetx64.efi; without it those of the system's packages.
    #[arg(long, value_name = "DIR")]
    pub loaders: Option<PathBuf>,
    /// Where leases are kept. Each is on the disk before its machine hears of it.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/elisandra/netboot.leases")]
    pub leases: PathBuf,
    /// The profile for machines that no profile matches; without it default.toml if it is there.
    #[arg(long, value_name = "PROFILE")]
    pub default: Option<String>,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let like = || format!("{text:?} is not a range of addresses; write it as 10.0.0.100-10.0.0.199");
        let (first, last) = text.split_once('-').ok_or_else(like)?;
        let parsed = |text: &str| text.trim().parse().map_err(|_| like());
        let (first, last): (Ipv4Addr, Ipv4Addr) = (parsed(first)?, parsed(last)?);
        if first > last {
            return Err(format!(
                "{first} comes after {last}; write the smaller address first: {last}-{first}"
            ));
        }
        Ok(Range { first, last })
    }
}

impl Arguments {
    pub fn files(&self) -> &Path {
        self.files.as_deref().unwrap_or(&self.folder)
    }

    /// Whether the command line says that addresses are given; if not, it depends on who else serves here.
    pub fn is_full(&self) -> bool {
        self.range.is_some() || self.network.is_some()
    }

    /// The server's address with its network, and the addresses to give.
    pub fn on(&self, own: &[Ipv4Net]) -> anyhow::Result<(Ipv4Net, Range)> {
        let interface = &self.interface;
        let Some(first) = own.first() else {
            let like = match (self.network, self.range) {
                (Some(network), _) => format!("{}/{}", below(network.network()), network.prefix_len()),
                (None, Some(range)) => {
                    format!("{}/24", below(Ipv4Net::new_assert(range.first, 24).network()))
                }
                (None, None) => "10.77.0.1/24".to_owned(),
            };
            bail!("{interface} has no IPv4 address; give it one first: ip addr add {like} dev {interface}");
        };
        let wanted = self.range.or_else(|| self.network.map(hosts));
        let Some(wanted) = wanted else { return Ok((*first, hosts(*first))) };
        let all = |net: &&Ipv4Net| net.contains(&wanted.first) && net.contains(&wanted.last);
        let Some(net) = own.iter().find(all) else {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            bail!(
                "{wanted} is not on the network of {interface}, which is {}; give addresses of that, or give \
                 {interface} an address there: ip addr add ADDRESS/LENGTH dev {interface}",
                own.join(" and ")
            );
        };
        let usable = hosts(*net);
        if wanted.first < usable.first || wanted.last > usable.last {
            bail!(
                "{wanted} has the network's own or its broadcast address; of {} machines can have {usable}",
                net.trunc()
            );
        }
        Ok((*net, wanted))
    }
}

fn below(network: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits().saturating_add(1))
}

/// The addresses that machines can have.
fn hosts(net: Ipv4Net) -> Range {
    if net.prefix_len() >= 31 {
        return Range { first: net.network(), last: net.broadcast() };
    }
    Range {
        first: Ipv4Addr::from_bits(net.network().to_bits() + 1),
        last: Ipv4Addr::from_bits(net.broadcast().to_bits() - 1),
    }
}

/// The IPv4 networks of an interface, which has to be there and to be up.
pub fn networks(interface: &str) -> anyhow::Result<Vec<Ipv4Net>> {
    let entries: Vec<_> = getifaddrs().context("listing the interfaces")?.collect();
    let of: Vec<_> = entries.iter().filter(|entry| entry.interface_name == interface).collect();
    if of.is_empty() {
        let mut names: Vec<&str> = entries
            .iter()
            .filter(|entry| !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK))
            .map(|entry| entry.interface_name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        bail!("there is no interface {interface}; there is: {}", names.join(", "));
    }
    if !of.iter().any(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)) {
        bail!("{interface} is down; switch it on first: ip link set {interface} up");
    }
    let network = |entry: &&nix::ifaddrs::InterfaceAddress| {
        let address = entry.address?.as_sockaddr_in()?.ip();
        let mask = entry.netmask?.as_sockaddr_in()?.ip();
        Ipv4Net::with_netmask(address, mask).ok()
    };
    Ok(of.iter().filter_map(network).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn on(words: &str, own: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from(
            ["netboot", "--interface", "eth1"].into_iter().chain(words.split_whitespace()),
        )
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
        let own: Vec<Ipv4Net> = own.iter().map(|net| net.parse().unwrap()).collect();
        let (net, range) = line.arguments.on(&own).map_err(|error| error.to_string())?;
        Ok(format!("{net}: {range}"))
    }

    #[test]
    fn what_is_served_follows_from_the_interface_and_the_command_line() {
        let own = ["10.0.0.1/24"];
        let told = [
            on("", &own),
            on("--network 10.0.0.0/24", &own),
            on("--network 10.0.0.64/26", &own),
            on("--range 10.0.0.100-10.0.0.199", &own),
            on("--range 10.0.0.100-10.0.0.199", &["192.168.1.5/16", "10.0.0.1/24"]),
            on("--range 10.0.0.100-10.0.0.255", &own),
            on("--range 10.0.0.100-10.0.1.9", &own),
            on("--network 10.9.0.0/24", &own),
            on("--range 10.0.0.100", &own),
            on("--range 10.0.0.9-10.0.0.2", &own),
            on("", &[]),
            on("--network 10.0.0.0/16", &[]),
            on("--range 10.0.7.9-10.0.7.20", &[]),
            on("--range 10.0.0.2-10.0.0.9 --proxy", &own),
            on("--lease-secs 3", &own),
        ];
        let told: Vec<String> = told.into_iter().map(|told| told.unwrap_or_else(|error| error)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
