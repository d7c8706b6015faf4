//! Which page is looked at, and how: all of it stands in its address, so that it can be kept and sent.

use axum::http::Uri;

/// What a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Words that must all be found.
    pub q: String,
    /// A state, or `needs` for what waits for a person.
    pub is: String,
    /// What stands on this host only.
    pub on: String,
    /// A column; with `-` before it from the end.
    pub sort: String,
    /// Counted from 0.
    pub page: usize,
    pub size: usize,
    /// Of the log: what stands before this position.
    pub before: Option<i64>,
}

pub const SIZES: [usize; 4] = [FEW, 25, 50, 200];
/// Of what is shown as a picture.
pub const FEW: usize = 20;
const USUAL_SIZE: usize = 50;
/// A question that is longer is cut.
const LONGEST: usize = 200;

/// A page that is kept live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    Overview,
    Machines(Look),
    Machine(String),
    Hosts(Look),
    Vms(Look),
    Vm(String),
    Volumes(Look),
    Images(Look),
    Services(Look),
    Service(String),
    Systems,
    Networks(Look),
    Switches(Look),
    Racks(Look),
    Users,
    Log(Look),
    Settings,
}

impl View {
    pub fn of(uri: &Uri) -> Option<View> {
        View::at(uri.path(), uri.query().unwrap_or_default())
    }

    /// From an address as [`View::address`] gives it.
    pub fn at_address(address: &str) -> Option<View> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        View::at(path, query)
    }

    fn at(path: &str, query: &str) -> Option<View> {
        let look = || Look::of(query);
        let mut parts = path.strip_prefix('/')?.split('/');
        let view = match (parts.next()?, parts.next().map(decoded)) {
            ("", None) => View::Overview,
            ("machines", None) => View::Machines(look()),
            ("machines", Some(id)) => View::Machine(id),
            ("hosts", None) => View::Hosts(look()),
            ("vms", None) => View::Vms(look()),
            ("vms", Some(id)) => View::Vm(id),
            ("volumes", None) => View::Volumes(look()),
            ("images", None) => View::Images(look()),
            ("services", None) => View::Services(look()),
            ("services", Some(id)) => View::Service(id),
            ("systems", None) => View::Systems,
            ("networks", None) => View::Networks(look()),
            ("switches", None) => View::Switches(look()),
            ("racks", None) => View::Racks(look()),
            ("users", None) => View::Users,
            ("log", None) => View::Log(look()),
            ("settings", None) => View::Settings,
            _ => return None,
        };
        parts.next().is_none().then_some(view)
    }

    /// The same for all that look at the same.
    pub fn address(&self) -> String {
        let path = self.path();
        match self {
            View::Machines(look)
            | View::Hosts(look)
            | View::Vms(look)
            | View::Volumes(look)
            | View::Images(look)
            | View::Services(look)
            | View::Networks(look)
            | View::Switches(look)
            | View::Racks(look)
            | View::Log(look) => format!("{path}{}", look.query()),
            View::Machine(id) | View::Vm(id) | View::Service(id) => format!("{path}/{}", encoded(id)),
            View::Overview | View::Systems | View::Users | View::Settings => path.to_owned(),
        }
    }

    /// Of the page in the navigation.
    pub fn path(&self) -> &'static str {
        match self {
            View::Overview => "/",
            View::Machines(_) | View::Machine(_) => "/machines",
            View::Hosts(_) => "/hosts",
            View::Vms(_) | View::Vm(_) => "/vms",
            View::Volumes(_) => "/volumes",
            View::Images(_) => "/images",
            View::Services(_) | View::Service(_) => "/services",
            View::Systems => "/systems",
            View::Networks(_) => "/networks",
            View::Switches(_) => "/switches",
            View::Racks(_) => "/racks",
            View::Users => "/users",
            View::Log(_) => "/log",
            View::Settings => "/settings",
        }
    }

    pub fn title(&self) -> &'static str {
        match self {
            View::Overview => "Overview",
            View::Machines(_) => "Machines",
            View::Machine(_) => "Machine",
            View::Hosts(_) => "Hosts",
            View::Vms(_) => "VMs",
            View::Vm(_) => "VM",
            View::Volumes(_) => "Volumes",
            View::Images(_) => "Images",
            View::Services(_) => "Services and packages",
            View::Service(_) => "Service",
            View::Systems => "Systems to install",
            View::Networks(_) => "Networks",
            View::Switches(_) => "Switches",
            View::Racks(_) => "Racks",
            View::Users => "Users",
            View::Log(_) => "Log",
            View::Settings => "Settings",
        }
    }

    /// Shows nothing but what was decided and what is planned: what nodes say meanwhile changes nothing on it.
    pub fn is_of_decisions(&self) -> bool {
        match self {
            View::Vms(_)
            | View::Volumes(_)
            | View::Images(_)
            | View::Services(_)
            | View::Systems
            | View::Switches(_)
            | View::Racks(_)
            | View::Users => true,
            View::Overview
            | View::Machines(_)
            | View::Machine(_)
            | View::Hosts(_)
            | View::Vm(_)
            | View::Service(_)
            | View::Networks(_)
            | View::Log(_)
            | View::Settings => false,
        }
    }
}

impl Look {
    /// What cannot be read counts as not said.
    pub fn of(query: &str) -> Look {
        let mut look = Look { size: USUAL_SIZE, ..Look::default() };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value: String = decoded(value).chars().filter(|c| !c.is_control()).take(LONGEST).collect();
            let value = value.trim();
            match name {
                "q" => look.q = value.to_owned(),
                "is" => look.is = value.to_owned(),
                "on" => look.on = value.to_owned(),
                "sort" => look.sort = value.to_owned(),
                "page" => look.page = value.parse().map_or(0, |page: usize| page.saturating_sub(1)),
                "n" => {
                    let size = value.parse().ok().filter(|size| SIZES.contains(size));
                    look.size = size.unwrap_or(USUAL_SIZE);
                }
                "before" => look.before = value.parse().ok().filter(|before| *before > 0),
                _ => {}
            }
        }
        look
    }

    /// `?q=web&page=2`, without what is usual; empty if all is.
    pub fn query(&self) -> String {
        let page = (self.page > 0).then(|| (self.page + 1).to_string());
        let size = (self.size != USUAL_SIZE).then(|| self.size.to_string());
        let pairs = [
            ("q", self.q.clone()),
            ("is", self.is.clone()),
            ("on", self.on.clone()),
            ("sort", self.sort.clone()),
            ("n", size.unwrap_or_default()),
            ("page", page.unwrap_or_default()),
            ("before", self.before.map(|before| before.to_string()).unwrap_or_default()),
        ];
        let said = pairs.iter().filter(|(_, value)| !value.is_empty());
        let said: Vec<String> = said.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) }
    }

    /// The column, and whether it is read from the end.
    pub fn order(&self) -> (&str, bool) {
        match self.sort.strip_prefix('-') {
            Some(column) => (column, true),
            None => (&self.sort, false),
        }
    }

    pub fn at_page(&self, page: usize) -> Look {
        Look { page, ..self.clone() }
    }

    pub fn being(&self, is: &str) -> Look {
        Look { is: is.to_owned(), page: 0, ..self.clone() }
    }

    pub fn by(&self, sort: String) -> Look {
        Look { sort, page: 0, ..self.clone() }
    }
}

/// As a part of an address; RFC 3986 calls what stays unreserved.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.first_chunk::<2>().and_then(|hex| {
            let hex = std::str::from_utf8(hex).ok()?;
            u8::from_str_radix(hex, 16).ok()
        });
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            // As forms write a space.
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_all_and_says_it_one_way() {
        let view = View::at_address("/vms?n=200&page=3&q=a%26b+%22c%22&sort=-host&is=running&x=1").unwrap();
        let View::Vms(look) = &view else { panic!("{view:?}") };
        assert_eq!(
            (look.q.as_str(), look.page, look.size, look.order()),
            ("a&b \"c\"", 2, 200, ("host", true))
        );
        let address = "/vms?q=a%26b%20%22c%22&is=running&sort=-host&n=200&page=3";
        assert_eq!(view.address(), address);
        assert_eq!(View::at_address(address), Some(view));
        for address in ["/", "/machines", "/machines/m1", "/log?before=7", "/services/a%2Fb", "/settings"] {
            assert_eq!(View::at_address(address).unwrap().address(), address);
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_not_said() {
        for query in
            ["page=x", "page=0", "page=-1", "n=7", "n=99999999999999999999", "%", "%zz=%", "q", "before=-3"]
        {
            assert_eq!(Look::of(query), Look::of(""), "{query}");
        }
        assert_eq!(Look::of(&format!("q={}", "a".repeat(100_000))).q.len(), LONGEST);
        assert_eq!(Look::of("q=%00%0d%0ax%").q, "x%");
        for path in ["", "x", "/x", "/vms/v1/more", "/racks/r1", "//"] {
            assert_eq!(View::at_address(path), None, "{path}");
        }
    }
}
