//! Configuration files of a package, rendered from its templates and facts of this network.
//!
//! The facts are what was decided here; nothing that a node has said about itself gets into a template.

use std::net::Ipv4Addr;
use std::path::Path;

use fleet::Fleet;
use fleet::package::Config;
use fleet::service::Service;
use fleet::vm::Vm;
use fleet::wire::ConfigFile;
use ipnet::Ipv4Net;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::{PackageError, bundle, manifest};

/// Instructions of the template engine that one rendering may take, so that it ends.
const FUEL: u64 = 100_000;
const LARGEST_FILE: usize = 1 << 20;

/// What a template may ask for; docs/eli.md lists the same.
#[derive(Debug)]
struct Facts {
    node: (String, Ipv4Addr),
    network: Ipv4Net,
    gateway: Ipv4Addr,
    domain: String,
    service: (String, Ipv4Addr, u16),
}

impl Facts {
    fn values(&self) -> Value {
        context! {
            node => context! { name => self.node.0.clone(), address => self.node.1.to_string() },
            network => context! {
                cidr => self.network.to_string(),
                gateway => self.gateway.to_string(),
                domain => self.domain.clone(),
            },
            service => context! {
                name => self.service.0.clone(),
                address => self.service.1.to_string(),
                port => self.service.2,
            },
        }
    }
}

/// The configuration files of `service` for its node `node`, from the bundle kept at `path`. Blocks.
pub fn render(
    fleet: &Fleet,
    service: &Service,
    node: &Vm,
    path: &Path,
) -> Result<Vec<ConfigFile>, PackageError> {
    let facts = facts(fleet, service, node)?;
    let bundle =
        fleet.packages.get(service.package()).map(|it| &it.bundle).filter(|b| b.sha256 == service.sha256);
    let configs: Vec<Config> = match bundle {
        Some(bundle) => bundle.manifest.configs.clone(),
        // A newer version of the package has been added since this service was installed.
        None => bundle::read(path)?.manifest.configs,
    };
    configs
        .iter()
        .map(|config| {
            let content = fill(&config.template, &bundle::template(path, &config.template)?, &facts)?;
            let mode = manifest::mode(config).map_err(PackageError::Unusable)?;
            Ok(ConfigFile { path: config.path.clone(), mode, content })
        })
        .collect()
}

/// Renders a template with facts of a made-up network: what does not parse, or asks for what is no fact,
/// is refused when the bundle comes in and not when a node needs its configuration.
pub(super) fn try_out(name: &str, template: &str) -> Result<(), PackageError> {
    let address = Ipv4Addr::new(192, 0, 2, 17);
    let gateway = Ipv4Addr::new(192, 0, 2, 1);
    let facts = Facts {
        node: ("hello-1".to_owned(), address),
        network: Ipv4Net::new_assert(gateway, 24).trunc(),
        gateway,
        domain: "example".to_owned(),
        service: ("hello".to_owned(), address, 8080),
    };
    fill(name, template, &facts).map(|_| ())
}

fn facts(fleet: &Fleet, service: &Service, node: &Vm) -> Result<Facts, PackageError> {
    let unknown =
        |what: &str| PackageError::Unusable(format!("the configuration of {} needs {what}", service.name));
    let site = fleet.site.as_ref().ok_or_else(|| unknown("a site that is founded"))?;
    let address = fleet.leases.address(node.mac).ok_or_else(|| unknown("a node with an address"))?;
    let subnet = fleet::subnet::of_address(fleet, address).ok_or_else(|| unknown("a network"))?;
    Ok(Facts {
        node: (node.name.to_string(), address),
        network: subnet.network,
        gateway: subnet.router.unwrap_or(site.address),
        domain: site.domain.clone(),
        service: (service.name.clone(), service.address, service.port),
    })
}

fn fill(name: &str, template: &str, facts: &Facts) -> Result<String, PackageError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    let wrong = |error: &minijinja::Error| {
        let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
        let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
        PackageError::Unusable(format!("the template {name}{line}: {}{detail}", error.kind()))
    };
    environment.set_syntax(syntax.map_err(|error| wrong(&error))?);
    let template = environment.template_from_str(template).map_err(|error| wrong(&error))?;
    let mut unknown: Vec<String> =
        template.undeclared_variables(true).into_iter().filter(|fact| !is_fact(fact)).collect();
    unknown.sort();
    if let Some(fact) = unknown.first() {
        return Err(PackageError::Unusable(format!(
            "the template {name} asks for {fact}, which is not a fact; there are {}",
            FACTS.join(", ")
        )));
    }
    let text = template.render(facts.values()).map_err(|error| wrong(&error))?;
    if text.len() > LARGEST_FILE {
        return Err(PackageError::Unusable(format!("the template {name} makes a file of more than 1 MiB")));
    }
    Ok(text)
}

const FACTS: [&str; 8] = [
    "node.name",
    "node.address",
    "network.cidr",
    "network.gateway",
    "network.domain",
    "service.name",
    "service.address",
    "service.port",
];

/// The engine reports `node` where a template takes the whole group, `node.name` where it takes one fact.
fn is_fact(name: &str) -> bool {
    FACTS.iter().any(|fact| *fact == name || fact.split('.').next() == Some(name))
        || ["range", "dict", "namespace", "debug"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(template: &str) -> String {
        try_out("templates/site.conf", template).expect_err(template).to_string()
    }

    #[test]
    fn templates_take_facts_and_nothing_else() {
        let all: String = FACTS.iter().map(|fact| format!("{{{{ {fact} }}}}\n")).collect();
        try_out("all", &all).unwrap();
        try_out("logic", "{% if service.port > 1024 %}high{% else %}low{% endif %}{% for i in range(3) %}{{ i }}{% endfor %}")
            .unwrap();
        assert_eq!(
            refusal("{{ node.adress }}"),
            "the template templates/site.conf asks for node.adress, which is not a fact; there are node.name, \
             node.address, network.cidr, network.gateway, network.domain, service.name, service.address, service.port"
        );
        assert!(refusal("{{ password }}").contains("asks for password"));
        assert!(refusal("{{ node.address").contains("line 1: syntax error"));
        assert!(refusal("\n{% if %}").contains("line 2: syntax error"));
        assert!(refusal("{% include '/etc/passwd' %}").contains("syntax error"));
        assert!(refusal("{{ node['secret'] }}").contains("undefined"));
        assert!(refusal("{{ node.name | nofilter }}").contains("unknown filter"));
    }

    #[test]
    fn the_documentation_lists_the_facts() {
        let page = include_str!("../../../docs/eli.md");
        let listed: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .filter(|name| ["node.", "network.", "service."].iter().any(|group| name.starts_with(group)))
            .collect();
        assert_eq!(listed, FACTS);
    }

    #[test]
    fn a_template_cannot_run_for_ever_nor_fill_the_memory() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(refusal(endless).contains("ran out of fuel"), "{}", refusal(endless));
    }

    #[test]
    fn text_is_not_escaped_and_its_last_line_end_stays() {
        let address = Ipv4Addr::new(10, 77, 3, 4);
        let facts = Facts {
            node: ("hello-1".into(), address),
            network: "10.77.0.0/16".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 77, 0, 1),
            domain: "elisandra".into(),
            service: ("hello".into(), address, 80),
        };
        let text = fill("x.html", "<b>{{ network.cidr }}</b> & {{ service.port }}\n", &facts).unwrap();
        assert_eq!(text, "<b>10.77.0.0/16</b> & 80\n");
    }
}
