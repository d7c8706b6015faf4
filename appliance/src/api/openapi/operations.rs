//! What each route is for, takes and answers.

use fleet::document::Document;
use fleet::medium::Medium;
use fleet::profile::Profile;
use fleet::rack::Place;
use fleet::site::Policy;
use fleet::subnet::Subnet;
use serde_json::Value;

use super::Operation;
use crate::api::{
    Changed, Force, check, consoles, document, erase, events, history, hosts, images, logins, machines, many,
    networks, packages, patch, plan, power, query, racks, replay, services, session, sessions, state, strips,
    switches, systems, tenants, timeline, users, vms, volumes, webhooks,
};
use crate::store::Entry;

const HTML: &str = "text/html";
const STREAM: &str = "text/event-stream";
const BYTES: &str = "application/octet-stream";

/// The operation of a route.
pub fn of(method: &str, path: &str) -> Option<Operation> {
    let says = Operation::says;
    let changes = |summary| says(summary).answers::<Changed>();
    let page = |summary| says(summary).as_kind(HTML).answers::<String>();
    let stream = |summary| says(summary).as_kind(STREAM).answers::<String>();
    Some(match (method, path) {
        ("GET", "/login") => page("The page on which one logs in"),
        ("GET", "/welcome") => page("The page on which the first password is set"),
        ("GET", "/assets/{file}") => says("Style sheet, scripts and icon of the pages").as_kind("*/*"),
        ("GET", "/libraries/{*file}") => says("What consoles are shown with").as_kind("*/*"),
        ("GET", "/") => page("The page of what needs somebody, what goes on, and how much room there is"),
        ("GET", "/machines") => page("The page of the machines"),
        ("GET", "/machines/{id}") => page("The page of a machine"),
        ("GET", "/machines/{id}/console") => page("The page of a console of a machine"),
        ("GET", "/machines/{id}/erasures") => page("What was erased of a machine, to be printed"),
        ("GET", "/hosts") => page("The page of the hosts"),
        ("GET", "/vms") => page("The page of the VMs"),
        ("GET", "/vms/{id}") => page("The page of a VM"),
        ("GET", "/vms/{id}/console") => page("The page of a console of a VM"),
        ("GET", "/volumes") => page("The page of the disks of VMs"),
        ("GET", "/images") => page("The page of what VMs and machines are made from"),
        ("GET", "/services") => page("The page of the services and the packages"),
        ("GET", "/services/{id}") => page("The page of a service"),
        ("GET", "/systems") => page("The page of what machines can be installed with"),
        ("GET", "/log") => page("The page of the log"),
        ("GET", "/settings") => page("The page of the policy"),
        ("GET", "/racks") => page("The page of the racks, from the front"),
        ("GET", "/switches") => page("The page of the switches and what is plugged into their ports"),
        ("GET", "/networks") => page("The page of the networks and their addresses"),
        ("GET", "/users") => page("The page of the users and their sessions"),
        ("GET", "/live") => stream("What has changed on a page, as HTML"),
        ("GET", "/timeline/{id}") => page("The timeline of a thing, as a part of a page"),

        ("POST", "/api/v1/password") => {
            says("Sets the first password, with the code on the appliance's screen")
                .takes::<session::FirstPassword>()
                .answers::<Value>()
        }
        ("POST", "/api/v1/login") => says("Opens a session").takes::<session::Login>().answers::<Value>(),
        ("POST", "/api/v1/logout") => says("Ends the session that asks").answers::<Value>(),
        ("GET", "/api/v1/me") => says("Who asks, and what he may do").answers::<users::Me>(),
        ("PUT", "/api/v1/me/password") => {
            changes("Changes one's own password").takes::<users::ChangedPassword>()
        }
        ("GET", "/api/v1/users") => says("The users and their roles").lists::<users::Listed>(),
        ("POST", "/api/v1/users") => changes("Adds a user").takes::<users::NewUser>(),
        ("PUT", "/api/v1/users/{id}/role") => changes("Gives a user another role").takes::<users::NewRole>(),
        ("PUT", "/api/v1/users/{id}/password") => {
            changes("Sets a user's password, and ends what was opened with the old one")
                .takes::<users::NewPassword>()
        }
        ("DELETE", "/api/v1/users/{id}") => changes("Removes a user"),
        ("GET", "/api/v1/tenants") => {
            says("The tenants, what each has and may have").lists::<tenants::Listed>()
        }
        ("POST", "/api/v1/tenants") => changes("Adds a tenant").takes::<tenants::NewTenant>(),
        ("PUT", "/api/v1/tenants/{id}") => {
            changes("Sets all limits of a tenant").takes::<fleet::tenant::Limits>()
        }
        ("DELETE", "/api/v1/tenants/{id}") => changes("Removes a tenant that has nothing any more"),
        ("GET", "/api/v1/sessions") => {
            says("The sessions and tokens of who asks; an admin sees everybody's").lists::<sessions::Listed>()
        }
        ("DELETE", "/api/v1/sessions/{id}") => changes("Ends a session or a token"),
        ("POST", "/api/v1/tokens") => says("Makes a token for a program; it is shown this once")
            .takes::<sessions::NewToken>()
            .answers::<session::Token>(),

        ("GET", "/api/v1/openapi.json") => says("This description").answers::<Value>(),
        ("GET", "/api/v1/webhooks") => {
            says("Where events are sent, and what is in the way").lists::<crate::webhooks::Webhook>()
        }
        ("POST", "/api/v1/webhooks") => {
            changes("Sends events to an address from now on").takes::<webhooks::NewWebhook>().makes()
        }
        ("DELETE", "/api/v1/webhooks/{id}") => changes("Sends events there no more"),
        ("GET", "/api/v1/support") => {
            says("An archive for who is asked for help, without secrets").as_kind("application/gzip")
        }
        ("GET", "/metrics") => {
            says("Counts and times for Prometheus").as_kind("text/plain").answers::<String>()
        }
        ("GET", "/api/v1/state") => says("Everything there is, in one document").answers::<state::State>(),
        ("GET", "/api/v1/events") => {
            stream("What changes, as it does; goes on after Last-Event-ID").asked::<events::Wanted>()
        }
        ("GET", "/api/v1/timeline/{id}")
        | ("GET", "/api/v1/machines/{id}/timeline")
        | ("GET", "/api/v1/vms/{id}/timeline")
        | ("GET", "/api/v1/services/{id}/timeline") => {
            says("What happened to a thing: the last lines, oldest first")
                .answers::<Vec<Entry>>()
                .asked::<timeline::Wanted>()
        }

        ("GET", "/api/v1/machines") => says("The computers that were found").lists::<machines::Machine>(),
        ("DELETE", "/api/v1/machines/{id}") => changes("Removes a machine").asked::<Force>(),
        ("POST", "/api/v1/machines/{id}/adopt") => {
            changes("Adopts a machine: it is installed").takes::<machines::Adopt>().or_nothing()
        }
        ("POST", "/api/v1/machines/{id}/cancel") => changes("Cancels what goes on with a machine"),
        ("POST", "/api/v1/machines/{id}/boot") => {
            changes("Says what a machine boots at its next start").takes::<machines::BootNext>()
        }
        ("PUT", "/api/v1/machines/{id}/place") => {
            changes("Puts a machine into a rack, or moves it").takes::<Place>()
        }
        ("DELETE", "/api/v1/machines/{id}/place") => changes("Takes a machine out of its rack"),
        ("GET", "/api/v1/machines/{id}/console") => {
            says("The serial line of a machine by its BMC, as a WebSocket").upgrades()
        }
        ("GET", "/api/v1/machines/{id}/said") => {
            says("What a machine says while it is found and installed, as a WebSocket").upgrades()
        }
        ("GET", "/api/v1/machines/{id}") => {
            says("A machine, and what can be done with it").answers::<machines::Machine>()
        }
        ("POST", "/api/v1/machines/{id}/power") => {
            changes("Switches a machine on, off, or off and on").takes::<power::Switch>()
        }
        ("POST", "/api/v1/machines/{id}/identify") => {
            changes("Lights a machine's identify LED, or puts it out").takes::<power::Light>()
        }
        ("PUT", "/api/v1/machines/{id}/bmc") => {
            changes("Says what switches a machine's power; it is asked first").takes::<power::NewBmc>()
        }
        ("DELETE", "/api/v1/machines/{id}/bmc") => {
            changes("Switches a machine by its BMC no more, and forgets the login")
        }
        ("POST", "/api/v1/machines/{id}/bmc/find") => {
            changes("Tries the list of logins at a machine's BMC").takes::<logins::Find>()
        }
        ("GET", "/api/v1/bmc/logins") => says("The logins that BMCs are tried with, without their passwords")
            .answers::<Vec<crate::power::logins::Listed>>(),
        ("POST", "/api/v1/bmc/logins") => changes("Tries BMCs with a login, too").takes::<logins::NewLogin>(),
        ("DELETE", "/api/v1/bmc/logins/{number}") => changes("Tries BMCs with a login no more"),
        ("PUT", "/api/v1/machines/{id}/strip") => {
            changes("Says which outlets of a power strip a machine is plugged into; they are asked first")
                .takes::<strips::NewStrip>()
        }
        ("DELETE", "/api/v1/machines/{id}/strip") => {
            changes("Switches a machine by its outlets no more, and forgets the login")
                .asked::<strips::Which>()
        }
        ("POST", "/api/v1/machines/{id}/fence") => {
            changes("Makes sure that a machine is off, so that its VMs may run elsewhere")
                .takes::<power::Why>()
        }
        ("POST", "/api/v1/machines/{id}/unfence") => {
            changes("Lets a machine run again").takes::<power::Unfence>()
        }
        ("POST", "/api/v1/machines/{id}/check") => {
            changes("Has the disks of a machine read from end to end, or no more").takes::<check::Check>()
        }
        ("POST", "/api/v1/machines/{id}/erase") => {
            changes("Erases disks of a machine").takes::<erase::Erase>()
        }
        ("GET", "/api/v1/machines/{id}/erasures") => says(
            "Certificates of what was erased of a machine, whether it is still there or not, oldest first",
        )
        .answers::<Vec<erase::Signed>>(),
        ("POST", "/api/v1/machines/{id}/retire") => changes("A machine leaves for good, and is remembered"),
        ("POST", "/api/v1/machines/{id}/unretire") => changes("Takes a retired machine back"),
        ("POST", "/api/v1/machines/{id}/reimage") => {
            changes("Installs a machine anew").takes::<power::Again>()
        }

        ("GET", "/api/v1/hosts") => says("The machines that carry VMs").lists::<hosts::Host>(),
        ("POST", "/api/v1/hosts/{id}/drain") => changes("Places no new VM on a host"),
        ("POST", "/api/v1/hosts/{id}/undrain") => changes("Places VMs on a host again"),

        ("POST", "/api/v1/hosts/{id}/fail") => {
            changes("What would come of it if a host hung now; it can only be planned")
        }

        ("GET", "/api/v1/vms") => says("The virtual machines").lists::<vms::Vm>(),
        ("POST", "/api/v1/vms") => changes("Makes a VM").takes::<vms::NewVm>().makes(),
        ("DELETE", "/api/v1/vms/{id}") => changes("Removes a VM and its volume").asked::<Force>(),
        ("POST", "/api/v1/vms/{id}/recover") => changes("Makes a VM anew whose host is lost"),
        ("POST", "/api/v1/vms/{id}/cancel") => changes("Cancels what goes on with a VM"),
        ("GET", "/api/v1/vms/{id}/console") => {
            says("The console of a VM, as a WebSocket").upgrades().asked::<consoles::Wanted>()
        }

        ("GET", "/api/v1/volumes") => {
            says("The disks of VMs, in the order of the ids of their VMs").lists::<volumes::Volume>()
        }
        ("GET", "/api/v1/images") => {
            says("What VMs and machines are made from, and how many are").lists::<images::Image>()
        }
        ("GET", "/api/v1/services") => says("What answers on the network").lists::<services::Service>(),
        ("DELETE", "/api/v1/services/{id}") => changes("Removes a service").asked::<Force>(),
        ("POST", "/api/v1/services/{id}/cancel") => changes("Cancels what goes on with a service"),

        ("GET", "/api/v1/packages") => says("The packages that are kept").lists::<packages::Package>(),
        ("POST", "/api/v1/packages") => changes(
            "Installs a package from its bundle; or, by {\"package\": NAME} as JSON, one that is kept",
        )
        .takes_as::<Vec<u8>>(BYTES)
        .asked::<packages::For>()
        .makes(),
        ("DELETE", "/api/v1/packages/{id}") => changes("Removes a package").asked::<Force>(),

        ("GET", "/api/v1/racks") => says("The racks and what stands in them").lists::<racks::Rack>(),
        ("POST", "/api/v1/racks") => changes("Adds a rack").takes::<racks::NewRack>().makes(),
        ("DELETE", "/api/v1/racks/{id}") => changes("Removes a rack").asked::<Force>(),

        ("GET", "/api/v1/switches") => {
            says("The switches and what is plugged in").lists::<switches::Switch>()
        }
        ("POST", "/api/v1/switches") => changes("Adds a switch").takes::<switches::NewSwitch>().makes(),
        ("DELETE", "/api/v1/switches/{id}") => changes("Removes a switch").asked::<Force>(),
        ("POST", "/api/v1/switches/{id}/ports") => {
            changes("Adds and removes ports, all or none").takes::<switches::Ports>()
        }
        ("POST", "/api/v1/switches/{id}/plug") => {
            changes("Says what is plugged into a port").takes::<switches::Plug>()
        }
        ("POST", "/api/v1/switches/{id}/unplug") => {
            changes("Says that nothing is plugged into a port").takes::<switches::Unplug>()
        }
        ("PUT", "/api/v1/switches/{id}/place") => {
            changes("Puts a switch into a rack, or moves it").takes::<Place>()
        }
        ("DELETE", "/api/v1/switches/{id}/place") => changes("Takes a switch out of its rack"),

        ("GET", "/api/v1/media") => says("The installation media that are kept").lists::<Medium>(),
        ("POST", "/api/v1/media") => changes("Takes an installation medium")
            .takes_as::<Vec<u8>>(BYTES)
            .asked::<systems::Import>()
            .makes(),
        ("DELETE", "/api/v1/media/{id}") => changes("Removes a medium").asked::<Force>(),
        ("GET", "/api/v1/profiles") => says("What machines can be installed with").lists::<systems::Listed>(),
        ("POST", "/api/v1/profiles") => {
            changes("Adds a profile, or describes it anew").takes::<Profile>().of_version()
        }
        ("GET", "/api/v1/profiles/{id}") => says("A profile").answers::<Profile>(),
        ("PATCH", "/api/v1/profiles/{id}") => {
            changes("Changes a profile").takes_as::<Patch>(patch::KIND).of_version()
        }
        ("GET", "/api/v1/profiles/{id}/template") => {
            says("The answers for the installer that a profile renders").answers::<String>()
        }
        ("DELETE", "/api/v1/profiles/{id}") => changes("Removes a profile").asked::<Force>(),

        ("GET", "/api/v1/networks") => says("The networks, how full they are, and who else gives addresses")
            .answers::<networks::Networks>(),
        ("GET", "/api/v1/subnets") => says("The subnets and how full they are").lists::<networks::Network>(),
        ("GET", "/api/v1/subnets/{id}") => says("A subnet").answers::<Subnet>(),
        ("PUT", "/api/v1/subnets/{id}") => {
            changes("Adds a subnet, or describes it anew").takes::<Subnet>().of_version()
        }
        ("PATCH", "/api/v1/subnets/{id}") => {
            changes("Changes a subnet").takes_as::<Patch>(patch::KIND).of_version()
        }
        ("DELETE", "/api/v1/subnets/{id}") => changes("Removes a subnet").asked::<Force>(),
        ("GET", "/api/v1/reservations") => {
            says("The addresses that are kept for somebody").lists::<networks::Reservation>()
        }
        ("POST", "/api/v1/reservations") => {
            changes("Keeps an address for somebody").takes::<networks::NewReservation>()
        }
        ("DELETE", "/api/v1/reservations/{id}") => changes("Keeps an address no more"),
        ("GET", "/api/v1/leases") => says("The addresses that are given").lists::<networks::Lease>(),
        ("DELETE", "/api/v1/leases/{id}") => {
            changes("Ends a lease, or the quarantine of an address").asked::<Force>()
        }

        ("GET", "/api/v1/policy") => {
            says("Which machines are adopted without asking, and whose keys open them").answers::<Policy>()
        }
        ("PUT", "/api/v1/policy") => changes("Sets the policy").takes::<Policy>().of_version(),
        ("PATCH", "/api/v1/policy") => {
            changes("Changes the policy").takes_as::<Patch>(patch::KIND).of_version()
        }

        ("POST", "/api/v1/many") => {
            changes("One order for many things, all or none of it").takes::<many::Many>()
        }
        ("GET", "/api/v1/query") => says("What there is to ask for").answers::<Vec<query::Nouns>>(),
        ("GET", "/api/v1/query/{noun}") => says("The objects for which an expression (CEL) holds")
            .answers::<Vec<Value>>()
            .asked::<query::Wanted>(),
        ("POST", "/api/v1/plan") => {
            says("What orders would do").takes::<plan::Wanted>().answers::<plan::Planned>()
        }
        ("POST", "/api/v1/apply") => changes("Does what a plan showed, or nothing").takes::<plan::Apply>(),
        ("GET", "/api/v1/document") => says("The desired state as a document").answers::<Document>(),
        ("POST", "/api/v1/document") => says("What would make the site like a document")
            .takes::<Document>()
            .answers::<document::PlannedDocument>()
            .of_version(),

        ("GET", "/api/v1/history") => {
            says("The log, told").answers::<Vec<history::Told>>().asked::<history::Wanted>()
        }
        ("GET", "/api/v1/history/{position}") => {
            says("An event of the log with the order that it came from").answers::<history::Full>()
        }
        ("GET", "/api/v1/log") => says("The log as lines that can be replayed")
            .answers::<history::Lines>()
            .asked::<history::Wanted>(),
        ("GET", "/api/v1/log/compacted") => {
            says("A short log that comes to the same").answers::<history::Compacted>()
        }
        ("GET", "/api/v1/hash") => says("The state in one number, now or at a moment")
            .answers::<history::Sum>()
            .asked::<history::At>(),
        ("POST", "/api/v1/replay") => says("Carries out another log, where nothing is real")
            .takes::<replay::Replay>()
            .answers::<replay::Replayed>(),
        _ => return None,
    })
}

/// RFC 6902.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its shape is shown")]
struct Patch(Vec<Step>);

#[derive(schemars::JsonSchema)]
#[serde(tag = "op", rename_all = "lowercase")]
#[expect(dead_code, reason = "only its shape is shown")]
enum Step {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}
