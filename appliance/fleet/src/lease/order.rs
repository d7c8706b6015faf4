//! What is decided of addresses besides giving them: reservations, quarantine, taking back.

use std::net::Ipv4Addr;

use super::{Event, QUARANTINE_SECS, address_for, holder_name, is_known};
use crate::{Ctx, Fleet, Mac, Refusal, service, subnet, vm};

/// While more than a quarter of a pool is in quarantine, a further address is only for so long: whoever declines every
/// address that it is offered must not use up the pool for a day.
const SHORT_QUARANTINE_SECS: u64 = 600;

pub(crate) fn reserve(fleet: &Fleet, mac: Mac, address: Ipv4Addr) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.leases.reserved.holder(address) == Some(mac) {
        return Ok(Vec::new());
    }
    let Some(subnet) = subnet::of_address(fleet, address) else {
        return Err(Refusal::Invalid(format!("no subnet is known that {address} is in")));
    };
    if fleet.site.as_ref().is_some_and(|site| site.foreign) && subnet.name == subnet::OWN {
        return Err(Refusal::Conflict(format!(
            "the addresses of {} are given by another DHCP server; reserve {address} there",
            subnet.network
        )));
    }
    if subnet.keeps(fleet, address) {
        return Err(Refusal::Invalid(format!(
            "{address} is not for machines: it is the appliance's, the router's, or the network's own"
        )));
    }
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(Refusal::Invalid(format!("{mac} is not the MAC address of a NIC")));
    }
    if let Some(vm) = vm::by_mac(fleet, mac)
        && fleet.leases.given.of_in(mac, subnet.network).is_some_and(|given| given != address)
    {
        return Err(Refusal::Conflict(format!(
            "{} is a VM; it keeps the address that it was made with",
            vm.name
        )));
    }
    if let Some(other) = fleet.leases.reserved.holder(address) {
        return Err(Refusal::Conflict(format!("{address} is reserved for {}", holder_name(fleet, other))));
    }
    if let Some(other) = fleet.leases.given.holder(address).filter(|other| *other != mac) {
        return Err(Refusal::Conflict(format!(
            "{} has {address}; free it first: eli lease remove {address}",
            holder_name(fleet, other)
        )));
    }
    Ok(vec![crate::Event::Lease(Event::Reserved { mac, address })])
}

pub(crate) fn unreserve(fleet: &Fleet, address: Ipv4Addr) -> Result<Vec<crate::Event>, Refusal> {
    match fleet.leases.reserved.holder(address) {
        Some(mac) => Ok(vec![crate::Event::Lease(Event::Unreserved { mac, address })]),
        None => Err(Refusal::Missing { what: "reservation of", name: address.to_string() }),
    }
}

/// Believed only of the address that `mac` has or would be given: nobody takes away another's.
pub(crate) fn quarantine(
    fleet: &Fleet,
    mac: Mac,
    address: Ipv4Addr,
    ctx: Ctx,
) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.leases.quarantine(address, ctx.now).is_some() {
        return Ok(Vec::new());
    }
    let subnet = subnet::of_address(fleet, address);
    let Some(subnet) = subnet.filter(|subnet| address_for(fleet, mac, subnet, ctx.now) == Some(address))
    else {
        return Err(Refusal::Conflict(format!(
            "{address} is not the address of {}, and not the one that it would be given",
            holder_name(fleet, mac)
        )));
    };
    if let Some(service) = vm::by_mac(fleet, mac).and_then(|vm| service::of_vm(fleet, vm.id).next()) {
        return Err(Refusal::Conflict(format!(
            "another machine answers to {address}, where the service {} answers; find it and give it another address",
            service.name
        )));
    }
    let usage = super::usage(fleet, &subnet, ctx.now);
    let secs = if usage.quarantined > usage.size / 4 { SHORT_QUARANTINE_SECS } else { QUARANTINE_SECS };
    let mut events = vec![crate::Event::Lease(Event::Quarantined { mac, address, secs, at: ctx.now })];
    // A machine asks again by itself. A VM is never without an address: its host and its packages are told of it.
    if vm::by_mac(fleet, mac).is_some() {
        let mut after = fleet.clone();
        crate::evolve(&mut after, &events[0]);
        events.extend(super::assign(&after, mac, Some(address), ctx)?);
    }
    Ok(events)
}

/// From a passer-by that has not renewed it for longer than its lease: whoever gives this command has kept the time.
pub(crate) fn take_back(fleet: &Fleet, mac: Mac, address: Ipv4Addr) -> Result<Vec<crate::Event>, Refusal> {
    if fleet.leases.given.holder(address) != Some(mac) {
        return Ok(Vec::new());
    }
    if is_known(fleet, mac) {
        return Err(Refusal::Conflict(format!(
            "{address} belongs to {}, which is known, and is not taken back",
            holder_name(fleet, mac)
        )));
    }
    Ok(vec![crate::Event::Lease(Event::Released { mac, address: Some(address) })])
}

/// By a person: a lease, or the quarantine of an address.
pub(crate) fn free(fleet: &Fleet, address: Ipv4Addr, force: bool) -> Result<Vec<crate::Event>, Refusal> {
    if let Some(mac) = fleet.leases.given.holder(address) {
        if let Some(vm) = vm::by_mac(fleet, mac) {
            return Err(Refusal::Conflict(format!("{address} is that of the VM {}; remove that", vm.name)));
        }
        if is_known(fleet, mac) && !force {
            return Err(Refusal::Conflict(format!(
                "{} has {address} and may be using it; free it by force if it is not",
                holder_name(fleet, mac)
            )));
        }
        return Ok(vec![crate::Event::Lease(Event::Released { mac, address: Some(address) })]);
    }
    match fleet.leases.quarantined.get(&address) {
        Some(quarantine) => {
            let mac = quarantine.mac;
            Ok(vec![crate::Event::Lease(Event::QuarantineEnded { mac, address })])
        }
        None => Err(Refusal::Missing { what: "lease of", name: address.to_string() }),
    }
}

/// Where another DHCP server gives the addresses, a machine's is the one that it speaks from.
pub(crate) fn learn(fleet: &Fleet, mac: Mac, address: Ipv4Addr) -> Result<Vec<crate::Event>, Refusal> {
    let Some(site) = fleet.site.as_ref().filter(|site| site.foreign) else {
        return Err(Refusal::Conflict("addresses are given here, and not learnt".to_owned()));
    };
    let of_vm = |mac| vm::by_mac(fleet, mac).is_some();
    let wrong = address == site.address
        || !site.network.contains(&address)
        || of_vm(mac)
        || fleet.leases.given.holder(address).is_some_and(of_vm);
    if wrong || fleet.leases.given.holder(address) == Some(mac) {
        return Ok(Vec::new());
    }
    Ok(vec![crate::Event::Lease(Event::Learned { mac, address })])
}
