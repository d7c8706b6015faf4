//! The ways to a BMC, each with the same questions and orders.

use super::agent::Agent;
use super::ipmi::Ipmi;
use super::redfish::Redfish;
use super::wake::Wake;
use super::{BmcError, Endpoint, Identity, Kind, Login, Power, Serial, Settings};

pub(super) enum Driver {
    Redfish(Box<Redfish>),
    Ipmi(Ipmi),
    Agent(Agent),
    Wake(Wake),
}

impl Driver {
    /// Redfish logs in here; with the others every question is a login of its own.
    pub async fn open(
        endpoint: &Endpoint,
        login: Option<&Login>,
        settings: &Settings,
    ) -> Result<Driver, BmcError> {
        let address = Address::parse(&endpoint.address)?;
        Ok(match &endpoint.kind {
            Kind::Redfish => {
                Driver::Redfish(Box::new(Redfish::open(endpoint, login, settings.limits.answer).await?))
            }
            Kind::Agent(name, options) if Ipmi::is_for(name) => {
                Driver::Ipmi(Ipmi::new(name, options, address, login, settings)?)
            }
            Kind::Agent(name, options) => Driver::Agent(Agent::new(name, options, address, login, settings)?),
            Kind::WakeOnLan(mac) => Driver::Wake(Wake::new(*mac, &address)?),
        })
    }

    pub fn address(&self) -> &str {
        match self {
            Driver::Redfish(redfish) => redfish.address(),
            Driver::Ipmi(ipmi) => &ipmi.address.text,
            Driver::Agent(agent) => &agent.address.text,
            Driver::Wake(wake) => &wake.from,
        }
    }

    pub async fn identify(&self) -> Result<Identity, BmcError> {
        match self {
            Driver::Redfish(redfish) => redfish.identify().await,
            Driver::Ipmi(ipmi) => ipmi.identify().await,
            Driver::Agent(agent) => {
                agent.power().await.map(|power| Identity { power: Some(power), ..Identity::default() })
            }
            Driver::Wake(_) => Err(BmcError::OnlyWakes),
        }
    }

    pub async fn power(&self) -> Result<Power, BmcError> {
        match self {
            Driver::Redfish(redfish) => redfish.power().await,
            Driver::Ipmi(ipmi) => ipmi.power().await,
            Driver::Agent(agent) => agent.power().await,
            Driver::Wake(_) => Err(BmcError::OnlyWakes),
        }
    }

    /// Proves nothing. `before` is what was last said, if that was clear.
    pub async fn order(&self, wanted: Power, before: Option<Power>) -> Result<(), BmcError> {
        match self {
            Driver::Redfish(redfish) => redfish.order(wanted, before).await,
            Driver::Ipmi(ipmi) => ipmi.order(wanted).await,
            Driver::Agent(agent) => agent.order(wanted).await,
            Driver::Wake(_) => Err(BmcError::OnlyWakes),
        }
    }

    pub async fn boot_from_network_once(&self, uefi: bool) -> Result<(), BmcError> {
        match self {
            Driver::Redfish(redfish) => redfish.boot_from_network_once().await,
            Driver::Ipmi(ipmi) => ipmi.boot_from_network_once(uefi).await,
            Driver::Agent(_) | Driver::Wake(_) => Err(self.lacks("set what is booted next")),
        }
    }

    pub async fn light(&self, on: bool) -> Result<(), BmcError> {
        match self {
            Driver::Redfish(redfish) => redfish.light(on).await,
            Driver::Ipmi(ipmi) => ipmi.light(on).await,
            Driver::Agent(_) | Driver::Wake(_) => Err(self.lacks("light a lamp")),
        }
    }

    pub async fn serial(&self) -> Result<Serial, BmcError> {
        match self {
            Driver::Ipmi(ipmi) => ipmi.serial().await,
            Driver::Redfish(_) | Driver::Agent(_) => Err(self.lacks("bring the serial line to the network")),
            Driver::Wake(_) => Err(BmcError::OnlyWakes),
        }
    }

    pub async fn close(self) {
        if let Driver::Redfish(redfish) = self {
            redfish.close().await;
        }
    }

    fn lacks(&self, what: &str) -> BmcError {
        BmcError::Lacks { address: self.address().to_owned(), what: what.to_owned() }
    }
}

/// `HOST` or `HOST:PORT`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub text: String,
    /// Without the brackets of IPv6.
    pub host: String,
    pub port: Option<u16>,
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, BmcError> {
        let wrong = || BmcError::Address { address: text.to_owned() };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        // Agents get the host as an argument of other programs: it must not look like an option of one.
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !text.starts_with('[') && (host.is_empty() || host.starts_with('-') || !host.chars().all(named)) {
            return Err(wrong());
        }
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        Ok(Address { text: text.to_owned(), host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_or_without_a_port() {
        let parse = |text| Address::parse(text).map(|address| (address.host, address.port));
        assert_eq!(parse("10.77.1.5"), Ok(("10.77.1.5".into(), None)));
        assert_eq!(parse("bmc-1.example:8443"), Ok(("bmc-1.example".into(), Some(8443))));
        assert_eq!(parse("[fd00::1]"), Ok(("fd00::1".into(), None)));
        assert_eq!(parse("[fd00::1]:623"), Ok(("fd00::1".into(), Some(623))));
        for wrong in [
            "", ":443", "-x", "fd00::1", "[fd00::1", "[bmc]:1", "a b", "a/b", "a@b", "a?b", "a:b", "a:70000",
            "a\nb", "a;b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
