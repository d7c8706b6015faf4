//! Subnets, reservations and leases over REST, by `eli`, on the page, and as DHCP clients meet them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::client::logged_in;
use crate::desk;
use crate::example::{mac, report};
use appliance::core::Actor;
use appliance::dhcp::{self, Seen};
use appliance::{core, network};
use axum::http::StatusCode;
use fleet::{Command, Mac, Timestamp, lease, subnet};
use pxe::Sight;
use serde_json::json;

fn asking(mac: Mac, link: Option<Ipv4Addr>) -> Sight {
    Sight {
        mac: pxe::MacAddr(mac.0),
        arch: None,
        uuid: None,
        vendor_class: None,
        user_class: None,
        hostname: None,
        requested: None,
        relay: link,
        link,
    }
}

fn stranger(number: u8) -> Mac {
    Mac([0x0a, 0, 0, 0, 0, number])
}

#[tokio::test]
async fn subnets_and_reservations_are_kept_and_shown() {
    let client = logged_in().await;
    let lab = json!({
        "name": "lab", "network": "10.80.0.0/24", "router": "10.80.0.1", "dns": ["9.9.9.9"],
        "ranges": [{ "first": "10.80.0.10", "last": "10.80.0.11" }],
    });
    let made = client.put("/api/v1/subnets/lab", lab.clone()).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let told = "Subnet lab is 10.80.0.0/24, router 10.80.0.1, addresses from 10.80.0.10-10.80.0.11";
    assert_eq!(made.json()["changed"], json!([told]));
    assert_eq!(client.put("/api/v1/subnets/lab", lab).await.json()["changed"], json!([]), "it is so already");
    let other = client.put("/api/v1/subnets/yard", json!({ "name": "lab", "network": "10.81.0.0/24" })).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = json!({ "name": "yard", "network": "10.80.0.0/25" });
    let wrong = client.put("/api/v1/subnets/yard", wrong).await;
    assert_eq!(wrong.error(), "10.80.0.0/25 overlaps 10.80.0.0/24, the network of subnet lab");

    let reserve = json!({ "mac": mac(7), "address": "10.80.0.10" });
    assert_eq!(client.post("/api/v1/reservations", reserve).await.status, StatusCode::OK);
    let app = &client.site.app;
    let directory = dhcp::directory(app.core.clone(), Arc::clone(&app.tokens), Arc::clone(&app.seen), false);
    let link = Some(Ipv4Addr::new(10, 80, 0, 1));
    let given = directory.commit(&asking(mac(7), link)).await.unwrap();
    assert_eq!(given.address, Ipv4Addr::new(10, 80, 0, 10));
    assert_eq!((given.network.router, given.network.domain.as_str()), (link, "elisandra"));
    assert_eq!(given.network.dns, [Ipv4Addr::new(9, 9, 9, 9)]);
    assert!(
        directory.network(Some(Ipv4Addr::new(10, 99, 0, 1))).is_none(),
        "a relay of a network nobody knows"
    );

    let subnets = client.get("/api/v1/subnets").await.json();
    assert_eq!((&subnets[0]["name"], &subnets[1]["name"]), (&json!("lab"), &json!("site")));
    assert_eq!(
        (&subnets[0]["size"], &subnets[0]["given"], &subnets[0]["free"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let leases = client.get("/api/v1/leases").await.json();
    assert_eq!(leases[0]["address"], "10.80.0.10");
    assert!(leases[0]["asked"].is_u64(), "{leases}");
    assert_eq!(client.get("/api/v1/reservations").await.json()[0]["given"], true);
    let page = client.get("/networks").await.text;
    assert!(page.contains("10.80.0.0/24") && page.contains("1 of 2 addresses given, 1 free"), "{page}");
    let lines = client.get("/api/v1/timeline/subnet:lab").await.text;
    assert!(lines.contains(told), "{lines}");
    let found = client.get("/api/v1/query/subnets?filter=free%20%3C%202").await.text;
    assert!(found.contains("lab") && !found.contains("site"), "{found}");

    directory.quarantine(pxe::MacAddr(stranger(1).0), given.address).await;
    assert_eq!(app.core.fleet().leases.given.holder(given.address), Some(mac(7)), "it is not the stranger's");
    directory.quarantine(pxe::MacAddr(mac(7).0), given.address).await;
    let other = directory.commit(&asking(mac(7), link)).await.unwrap();
    assert_eq!(other.address, Ipv4Addr::new(10, 80, 0, 11));
    assert!(client.get("/networks").await.text.contains("In quarantine"));
    assert_eq!(client.delete("/api/v1/leases/10.80.0.10").await.status, StatusCode::OK);
    let kept = client.delete("/api/v1/leases/10.80.0.11").await;
    assert!(kept.error().contains("free it by force"), "{}", kept.text);
    assert_eq!(client.delete("/api/v1/leases/10.80.0.11?force=true").await.status, StatusCode::OK);
    let again = directory.commit(&asking(mac(7), link)).await.unwrap();
    assert_eq!(again.address, given.address, "what is reserved for it");

    let kept = client.delete("/api/v1/subnets/lab").await;
    assert_eq!(kept.status, StatusCode::CONFLICT, "{}", kept.text);
    assert_eq!(client.delete("/api/v1/subnets/lab?force=true").await.status, StatusCode::OK);
    assert_eq!(client.delete("/api/v1/subnets/lab").await.error(), "there is no subnet lab");
    assert_eq!(client.delete("/api/v1/reservations/10.80.0.10").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_strangers_took_is_given_again_when_they_are_gone() {
    let client = logged_in().await;
    let app = &client.site.app;
    let range = subnet::Range { first: Ipv4Addr::new(10, 77, 1, 0), last: Ipv4Addr::new(10, 77, 1, 9) };
    let own = subnet::own(&app.core.fleet()).unwrap();
    let own = subnet::Subnet { ranges: vec![range], ..own };
    app.core.execute(&Actor::Appliance, Command::SetSubnet { subnet: own.clone() }).await.unwrap();
    report(&app.core, mac(1), false).await;
    let machine = app.core.fleet().leases.address(mac(1)).unwrap();

    let hour_ago = Timestamp(core::now().0 - 3_700_000);
    let now = Arc::new(Seen::since(core::now()));
    let directory = dhcp::directory(app.core.clone(), Arc::clone(&app.tokens), Arc::clone(&now), false);
    let mut given = Vec::new();
    for number in 0..9 {
        given.push(directory.commit(&asking(stranger(number), None)).await.unwrap().address);
    }
    assert_eq!(directory.commit(&asking(stranger(0), None)).await.unwrap().lease_secs, 3600);
    assert!(directory.offer(&asking(stranger(20), None)).await.is_err(), "they may still be there");
    assert!(directory.commit(&asking(stranger(20), None)).await.is_err());

    // As if they had taken them more than an hour ago, and three had come again.
    let seen = Arc::new(Seen::since(hour_ago));
    for address in &given[..3] {
        seen.saw(*address, core::now());
    }
    let directory = dhcp::directory(app.core.clone(), Arc::clone(&app.tokens), seen, false);
    for number in 20..26 {
        let offered = directory.offer(&asking(stranger(number), None)).await.unwrap().address;
        let sight = Sight { requested: Some(offered), ..asking(stranger(number), None) };
        assert_eq!(directory.commit(&sight).await.unwrap().address, offered);
        assert!(given[3..].contains(&offered), "of those that nobody asked for");
    }
    assert!(directory.commit(&asking(stranger(30), None)).await.is_err(), "the others are in use");
    let fleet = app.core.fleet();
    assert_eq!(fleet.leases.address(mac(1)), Some(machine));
    assert_eq!(lease::usage(&fleet, &own, core::now()).free(), 0);
}

#[tokio::test]
async fn the_site_has_an_ipv6_network_of_its_own() {
    let client = logged_in().await;
    let fleet = client.site.app.core.fleet();
    let network = dhcp::network6(&fleet).unwrap();
    assert_eq!((network.prefix_len(), network.network().octets()[0]), (64, 0xfd));
    assert_eq!(network.network().octets()[6..], [0; 10]);
    assert_eq!(dhcp::network6(&fleet), Some(network), "always the same");
    assert_eq!(dhcp::network6(&fleet::Fleet::default()), None);
}

#[tokio::test]
async fn a_person_describes_networks_by_eli() {
    let desk = desk::logged_in().await;
    let eli = async |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        desk.eli(&words).await
    };
    let done =
        eli("subnet add lab 10.80.0.0/24 --router 10.80.0.1 --dns 9.9.9.9 --range 10.80.0.10-10.80.0.20")
            .await;
    assert_eq!(done.code, 0, "{}", done.err);
    let done =
        eli("subnet set site --router 10.77.0.2 --ntp 10.77.0.1 --route 10.80.0.0/16=10.77.0.2 --mtu 9000")
            .await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(eli("subnet set lab --dns none --lease 600").await.code, 0);
    let fleet = desk.core().fleet();
    let lab = subnet::by_name(&fleet, "lab").unwrap();
    assert_eq!(
        (lab.dns.len(), lab.lease_secs, lab.ranges.len()),
        (0, Some(600), 1),
        "what was not said stays"
    );
    let listed = eli("subnet list").await.out;
    assert!(listed.contains("10.77.0.2") && listed.contains("10.80.0.10-10.80.0.20"), "{listed}");
    let twice = eli("subnet add lab 10.81.0.0/24").await;
    assert!(twice.err.contains("eli subnet set lab changes it"), "{}", twice.err);
    let wrong = eli("subnet set lab --range 10.80.0.20").await;
    assert!(wrong.err.contains("is not a range as"), "{}", wrong.err);
    let wrong = eli("subnet set lab --router 10.81.0.1").await;
    assert!(wrong.err.contains("the router 10.81.0.1 is outside of 10.80.0.0/24"), "{}", wrong.err);

    assert_eq!(eli("reservation add 02:00:00:00:00:09 10.80.0.15").await.code, 0);
    let listed = eli("reservation list").await.out;
    assert!(listed.contains("10.80.0.15") && listed.contains("not yet"), "{listed}");
    let sight = Command::Sight { mac: mac(1), arch: None, uuid: None, link: None };
    desk.core().execute(&Actor::Wire(mac(1)), sight).await.unwrap();
    let address = desk.core().fleet().leases.address(mac(1)).unwrap();
    let listed = eli("lease list").await.out;
    assert!(listed.contains(&address.to_string()) && listed.contains("passing by"), "{listed}");
    assert_eq!(eli(&format!("lease remove --yes {address}")).await.code, 0);
    assert_eq!(eli("reservation remove --yes 10.80.0.15").await.code, 0);
    let exported = eli("export").await;
    assert!(exported.out.contains("[[subnet]]"), "{}{}", exported.out, exported.err);
    assert_eq!(eli("subnet remove --yes lab site").await.code, 0);
    assert!(desk.core().fleet().subnets.is_empty());
}

#[test]
fn a_network_that_was_found_by_an_older_version_is_read() {
    let text = r#"{"serve":{"interface":"lan0","address":"10.77.0.1","network":"10.77.0.0/16"},
        "upstream":[{"interface":"eth0","server":"10.0.0.1","offered":"10.0.0.9"}],"sentence":"Serving."}"#;
    let found: network::Found = serde_json::from_str(text).unwrap();
    let wires = network::Wires::of(&found);
    assert_eq!(wires.all().len(), 2);
    assert!(wires.warnings().is_empty());
}
