//! Makes a GPT disk bootable by BIOS: GRUB's boot.img in the first sector, its core.img in the BIOS boot
//! partition, and the two block numbers that join them. What `grub-bios-setup` does, without root, without
//! mounting and for a disk that may be a file.
//!
//! Offsets follow GRUB's `include/grub/i386/pc/boot.h` and `include/grub/offsets.h`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use thiserror::Error;

const SECTOR: usize = 512;

/// boot.img: where the number of the first sector of core.img is kept (u64).
const BOOT_KERNEL_SECTOR: usize = 0x5c;
/// boot.img: a jump over the code that corrects the drive number of a BIOS which passes a wrong one.
/// `grub-bios-setup` replaces it by two NOPs on every disk that is not a floppy.
const BOOT_DRIVE_CHECK: usize = 0x66;
/// The first sector of a disk: these bytes belong to its partition table (disk signature and MBR entries;
/// on GPT the protective entry).
const PARTITION_TABLE: std::ops::Range<usize> = 0x1b8..0x1fe;
/// core.img: the first sector (diskboot.img) ends with the list of blocks to load:
/// start sector u64, number of sectors u16, real-mode segment u16. A list entry with no sectors ends it; lists
/// grow downwards.
const CORE_BLOCK_LIST: usize = SECTOR - 12;
/// The segment that the second sector of core.img is loaded to: 0x8000 for the first, 32 paragraphs on.
const CORE_SEGMENT: u16 = 0x800 + 0x20;

#[derive(Debug, Error)]
pub enum GrubError {
    #[error("boot.img is {0} bytes; GRUB's boot sector has 512")]
    BootImageSize(usize),
    #[error("{0} does not end with the boot signature 55 aa")]
    NoBootSignature(&'static str),
    #[error("core.img is not one made by grub-mkimage for i386-pc: {0}")]
    NotACoreImage(&'static str),
    #[error("core.img needs {needed} sectors; the BIOS boot partition has {available}")]
    CoreTooLarge { needed: u64, available: u64 },
    #[error("a BIOS boot partition cannot begin at sector {0}, inside the partition table")]
    PartitionInsideTable(u64),
    #[error("reading the first sector of the disk")]
    ReadFirstSector(#[source] io::Error),
    #[error("writing {what} to the disk")]
    Write {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Writes `boot_img` to the first sector, keeping the partition table there, and `core_img` to the BIOS boot
/// partition that begins at sector `bios_boot_partition_lba` (512-byte sectors). Doing it again changes nothing.
///
/// core.img is written before the boot sector: with the power lost in between, the disk boots as it did before.
pub fn embed_bios_grub(
    disk: &mut (impl Read + Write + Seek),
    boot_img: &[u8],
    core_img: &[u8],
    bios_boot_partition_lba: u64,
    partition_sectors: u64,
) -> Result<(), GrubError> {
    // The header and the entries of a GPT take sectors 1 to 33.
    if bios_boot_partition_lba < 34 {
        return Err(GrubError::PartitionInsideTable(bios_boot_partition_lba));
    }
    let core = linked_core(core_img, bios_boot_partition_lba, partition_sectors)?;

    let mut first = [0u8; SECTOR];
    disk.seek(SeekFrom::Start(0))
        .and_then(|_| disk.read_exact(&mut first))
        .map_err(GrubError::ReadFirstSector)?;
    let first = boot_sector(&first, boot_img, bios_boot_partition_lba)?;

    write_at(disk, bios_boot_partition_lba * SECTOR as u64, &core, "core.img")?;
    write_at(disk, 0, &first, "the boot sector")
}

/// core.img padded to whole sectors, with a block list that says it lies in one piece from `start`.
fn linked_core(core_img: &[u8], start: u64, available: u64) -> Result<Vec<u8>, GrubError> {
    if core_img.len() < 2 * SECTOR {
        return Err(GrubError::NotACoreImage("it is shorter than two sectors"));
    }
    let needed = core_img.len().div_ceil(SECTOR) as u64;
    if needed > available {
        return Err(GrubError::CoreTooLarge { needed, available });
    }
    let Ok(rest) = u16::try_from(needed - 1) else {
        return Err(GrubError::NotACoreImage("it is longer than one block list can say (32 MiB)"));
    };
    if core_img[CORE_BLOCK_LIST + 10..SECTOR] != CORE_SEGMENT.to_le_bytes() {
        return Err(GrubError::NotACoreImage("its first sector has no block list for segment 0x820"));
    }

    let mut core = core_img.to_vec();
    core.resize(needed as usize * SECTOR, 0);
    core[CORE_BLOCK_LIST..CORE_BLOCK_LIST + 8].copy_from_slice(&(start + 1).to_le_bytes());
    core[CORE_BLOCK_LIST + 8..CORE_BLOCK_LIST + 10].copy_from_slice(&rest.to_le_bytes());
    // The end of the list. An image that was once installed elsewhere may have a second piece here.
    core[CORE_BLOCK_LIST - 12..CORE_BLOCK_LIST].fill(0);
    Ok(core)
}

/// boot.img, pointing at `core_start`, with the partition table of the sector that it replaces.
fn boot_sector(old: &[u8; SECTOR], boot_img: &[u8], core_start: u64) -> Result<[u8; SECTOR], GrubError> {
    let mut sector: [u8; SECTOR] =
        boot_img.try_into().map_err(|_| GrubError::BootImageSize(boot_img.len()))?;
    if sector[SECTOR - 2..] != [0x55, 0xaa] {
        return Err(GrubError::NoBootSignature("boot.img"));
    }
    // A disk without it has no partition table yet: ours would boot into a BIOS that refuses it.
    if old[SECTOR - 2..] != [0x55, 0xaa] {
        return Err(GrubError::NoBootSignature("the first sector of the disk"));
    }
    sector[BOOT_KERNEL_SECTOR..BOOT_KERNEL_SECTOR + 8].copy_from_slice(&core_start.to_le_bytes());
    sector[BOOT_DRIVE_CHECK..BOOT_DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    sector[PARTITION_TABLE].copy_from_slice(&old[PARTITION_TABLE]);
    Ok(sector)
}

fn write_at(
    disk: &mut (impl Write + Seek),
    offset: u64,
    bytes: &[u8],
    what: &'static str,
) -> Result<(), GrubError> {
    disk.seek(SeekFrom::Start(offset))
        .and_then(|_| disk.write_all(bytes))
        .and_then(|()| disk.flush())
        .map_err(|source| GrubError::Write { what, source })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const PARTITION: u64 = 2048;

    fn disk() -> Cursor<Vec<u8>> {
        let mut bytes = vec![0u8; 4096 * SECTOR];
        bytes[PARTITION_TABLE].fill(0x77);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        Cursor::new(bytes)
    }

    fn boot_img() -> Vec<u8> {
        let mut image = vec![0xb0u8; SECTOR];
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    /// Four sectors and a bit, as grub-mkimage leaves it: the list says sector 2, four sectors, segment 0x820.
    fn core_img() -> Vec<u8> {
        let mut image = vec![0xc0u8; 4 * SECTOR + 100];
        image[500..512].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0x20, 0x08]);
        image
    }

    fn embed(disk: &mut Cursor<Vec<u8>>, boot: &[u8], core: &[u8], sectors: u64) -> Result<(), GrubError> {
        embed_bios_grub(disk, boot, core, PARTITION, sectors)
    }

    #[test]
    fn boot_sector_points_at_the_core_and_the_core_at_itself() {
        let mut disk = disk();
        embed(&mut disk, &boot_img(), &core_img(), 2048).unwrap();
        let bytes = disk.into_inner();

        assert_eq!(bytes[0x5c..0x64], PARTITION.to_le_bytes());
        assert_eq!(bytes[0x66..0x68], [0x90, 0x90]);
        assert!(bytes[PARTITION_TABLE].iter().all(|b| *b == 0x77), "the partition table was changed");
        assert_eq!(bytes[510..512], [0x55, 0xaa]);

        let core = &bytes[PARTITION as usize * SECTOR..][..5 * SECTOR];
        assert_eq!(core[500..508], (PARTITION + 1).to_le_bytes());
        assert_eq!(core[508..510], 4u16.to_le_bytes());
        assert_eq!(core[510..512], [0x20, 0x08]);
        assert!(core[488..500].iter().all(|b| *b == 0), "the block list does not end");
        assert_eq!(core[SECTOR..4 * SECTOR + 100], core_img()[SECTOR..]);
        assert!(core[4 * SECTOR + 100..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let mut disk = disk();
        embed(&mut disk, &boot_img(), &core_img(), 2048).unwrap();
        let once = disk.get_ref().clone();
        embed(&mut disk, &boot_img(), &core_img(), 2048).unwrap();
        assert!(once == disk.into_inner());
    }

    #[test]
    fn what_does_not_fit_or_is_not_grub_leaves_the_disk_alone() {
        let refused = [
            embed(&mut disk(), &boot_img()[..511], &core_img(), 2048),
            embed(&mut disk(), &[0; SECTOR], &core_img(), 2048),
            embed(&mut disk(), &boot_img(), &core_img(), 4),
            embed(&mut disk(), &boot_img(), &core_img()[..700], 2048),
            embed(&mut disk(), &boot_img(), &[0xc0; 4 * SECTOR], 2048),
            embed_bios_grub(&mut disk(), &boot_img(), &core_img(), 33, 2048),
        ];
        let sentences: Vec<String> = refused.into_iter().map(|r| r.unwrap_err().to_string()).collect();
        assert_eq!(
            sentences,
            [
                "boot.img is 511 bytes; GRUB's boot sector has 512",
                "boot.img does not end with the boot signature 55 aa",
                "core.img needs 5 sectors; the BIOS boot partition has 4",
                "core.img is not one made by grub-mkimage for i386-pc: it is shorter than two sectors",
                "core.img is not one made by grub-mkimage for i386-pc: its first sector has no block list for segment 0x820",
                "a BIOS boot partition cannot begin at sector 33, inside the partition table",
            ]
        );

        let mut blank = Cursor::new(vec![0u8; 4096 * SECTOR]);
        let error = embed(&mut blank, &boot_img(), &core_img(), 2048).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the first sector of the disk does not end with the boot signature 55 aa"
        );
        assert!(
            blank.into_inner().iter().all(|b| *b == 0),
            "a disk without a partition table was written to"
        );
    }
}
