//! Disk images: how a disk is made bootable.

pub mod grub;
